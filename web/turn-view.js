// @ts-check
/** One prompt and its answer, as they are shown. */

import { AsideView } from "./aside-view.js";
import { button, icon, make, name } from "./dom.js";
import { textAsWritten } from "./formula.js";
import { Markdown } from "./markdown.js";
import { COPIED_MS, copy, SIGNS } from "./signs.js";

/** @typedef {import("./response-state.js").Status} Status */

/**
 * What an answer shows.
 * @typedef {{
 *   responseId: string | null, status: Status, text: string, aside: import("./aside.js").Aside | null, note: string, simulated: boolean, last: boolean, idle: boolean,
 * }} Shown `note` is the line under the text; `last` and `idle`: it may be asked anew
 */

/** @typedef {{regenerate: () => void, edit: () => void}} Actions */

export class TurnView {
  element = make("div", "turn");
  #answer = make("article", "answer");
  #text = make("div", "text");
  #tag;
  #note = make("span", "note");
  #actions = make("div", "actions");
  /** Asks once more after a failure, in words; beside an answer, as a sign. */
  #again;
  #regenerate;
  #edit;
  #copy;
  #status = "";
  /** @type {Element | null} */ #growing = null;
  #written = "";
  #markdown;
  /** @type {AsideView | null} */ #aside = null;

  /** @param {string} prompt @param {import("./status.js").StatusWords} words @param {Actions} actions */
  constructor(prompt, words, { regenerate, edit }) {
    this.words = words;
    this.#markdown = new Markdown(this.#text, words);
    this.#tag = make("span", "tag", words.simulation);
    this.#again = button("again", words.again, regenerate, words.again);
    this.#copy = button("action copy", words.copyAnswer, () => void this.#copyText(), icon(SIGNS.copy));
    this.#regenerate = button("action regenerate", words.regenerate, regenerate, icon(SIGNS.again));
    this.#edit = button("action edit", words.edit, edit, icon(SIGNS.edit));
    this.#actions.append(this.#again, this.#copy, this.#regenerate, this.#edit);
    name(this.#answer, words.answer);
    const line = make("div", "line", make("span", "dot"), this.#note, this.#tag);
    this.#answer.append(this.#text, line, this.#actions);
    this.element.append(make("div", "prompt", make("span", "unseen", words.you), prompt), this.#answer);
  }

  /** The beginning of the answer as it is read out, block by block. @param {number} most characters */
  spoken(most) {
    let text = "";
    for (const block of this.#text.children) {
      if (text.length < most) text += `${textAsWritten(block)} `;
    }
    return text.slice(0, most).trim();
  }

  /** @param {Shown} shown */
  show({ responseId, status, text, aside, note, simulated, last, idle }) {
    const running = status === "sending" || status === "queued" || status === "in_progress";
    this.#written = text;
    this.#markdown.show(text, !running);
    this.#mark(running ? this.#text.lastElementChild : null);
    this.#text.hidden = text === "";
    if (aside) this.#showAside(aside);
    if (this.#note.textContent !== note) this.#note.textContent = note;
    const asked = last && idle && !running;
    this.#tag.hidden = !simulated;
    this.#again.hidden = !(asked && (status === "failed" || status === "cancelled"));
    this.#copy.hidden = running || text === "";
    this.#regenerate.hidden = !(asked && this.#again.hidden);
    this.#edit.hidden = !asked;
    this.#actions.hidden = this.#copy.hidden && this.#edit.hidden && this.#again.hidden;
    if (responseId !== null) this.#answer.dataset.responseId = responseId;
    if (status === this.#status) return;
    this.#status = status;
    this.#answer.dataset.status = status;
    this.#answer.setAttribute("aria-busy", String(running)); // a screen reader hears it once, when it is whole
  }

  /** @param {import("./aside.js").Aside} aside */
  #showAside(aside) {
    if (this.#aside === null) {
      this.#aside = new AsideView(this.words);
      this.#text.before(this.#aside.above);
      this.#text.after(this.#aside.below);
    }
    this.#aside.show(aside);
  }

  /** Marks the block that grows. A rule that looks for the last one would have all of them looked at again.
   * @param {Element | null} block
   */
  #mark(block) {
    if (block === this.#growing) return;
    this.#growing?.classList.remove("growing");
    block?.classList.add("growing");
    this.#growing = block;
  }

  async #copyText() {
    await copy(this.#written);
    this.#copy.replaceChildren(icon(SIGNS.done));
    setTimeout(() => this.#copy.replaceChildren(icon(SIGNS.copy)), COPIED_MS);
  }
}
