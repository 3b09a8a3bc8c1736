// @ts-check
/** Shows code with line numbers and marked lines. */

import { colour } from "./code.js";
import { make } from "./dom.js";

export class SnippetView {
  element = make("div", "listing");
  #mark = make("div", "mark");
  #scroll = make("div", "listing-code");

  /** Creates the listing of the code with line numbers. @param {string} code @param {string} language */
  constructor(code, language) {
    this.lines = code.split("\n").length;
    const numbers = Array.from({ length: this.lines }, (_, line) => line + 1).join("\n");
    const gutter = make("pre", "gutter", numbers);
    gutter.setAttribute("aria-hidden", "true");
    const text = make("code", "", code);
    this.#scroll.tabIndex = 0;
    this.#scroll.setAttribute("role", "group");
    this.#scroll.setAttribute("aria-label", "The code under review");
    this.#mark.hidden = true;
    this.#scroll.append(this.#mark, make("pre", "", text));
    this.element.append(gutter, this.#scroll);
    void colour(text, language);
  }

  /** Marks a range of lines and scrolls to it. @param {number} first @param {number} last */
  mark(first, last) {
    const [from, to] = [Math.min(first, this.lines), Math.min(last, this.lines)];
    this.#mark.hidden = false;
    this.#mark.style.setProperty("--from", String(from - 1));
    this.#mark.style.setProperty("--lines", String(to - from + 1));
    this.element.dataset.marked = from === to ? `${from}` : `${from}-${to}`;
    // Only the listing scrolls, so that the review keeps its position on the page.
    this.element.scrollTop = this.#mark.offsetTop - this.element.clientHeight / 2;
  }
}
