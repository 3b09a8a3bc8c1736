// @ts-check
/** The buttons with which a visitor goes back and forth between the versions of a turn. */

import { button, make, name } from "./dom.js";
import { LIST } from "./list-words.js";
import { fill } from "./words.js";

export class BranchView {
  element = make("nav", "branches");
  #place = make("span", "branch-place");
  #earlier;
  #later;
  #index = 0;
  /** @type {string[]} */ #ids = [];

  /** @param {object} words @param {(responseId: string) => void} choose */
  constructor(words, choose) {
    this.words = { ...LIST, ...words };
    const step = (/** @type {number} */ by) => () => choose(this.#ids[this.#index + by] ?? "");
    this.#earlier = button("action earlier", this.words.earlierBranch, step(-1), "‹");
    this.#later = button("action later", this.words.laterBranch, step(1), "›");
    this.element.append(this.#earlier, this.#place, this.#later);
  }

  /** @param {number} index @param {string[]} ids the response ids of all versions */
  show(index, ids) {
    this.element.hidden = ids.length < 2;
    this.#index = index;
    this.#ids = ids;
    this.#earlier.disabled = index <= 0;
    this.#later.disabled = index >= ids.length - 1;
    const place = `${index + 1}/${ids.length}`;
    if (this.#place.textContent === place) return;
    this.#place.textContent = place;
    name(this.element, fill(this.words.branch, { place: index + 1, count: ids.length }));
  }
}
