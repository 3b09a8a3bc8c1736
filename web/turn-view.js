// @ts-check
/** One prompt and its answer, as they are shown. Loaded when there is time, or something to show. */

import sheet from "./answer.css" with { type: "css" };
import { button, icon, make, name } from "./dom.js";
import { Markdown } from "./markdown.js";
import { COPIED_MS, copy, SIGNS } from "./signs.js";
import { bannerWords, STATUS, statusWords } from "./status.js";

export { refusal } from "./refusal.js";

/** @typedef {import("./answer.js").Status} Status */
/** @typedef {import("./answer-handle.js").AnswerHandle} AnswerHandle */
/** @typedef {import("./connection.js").State} State */
/** @typedef {import("./thread.js").Thread} Thread */

/**
 * What an answer shows.
 * @typedef {{
 *   responseId: string | null, status: Status, text: string, note: string, simulated: boolean, last: boolean, idle: boolean,
 * }} Shown `note` is the line under the text; `last` and `idle`: it may be asked anew
 */

/** @typedef {{regenerate: () => void, edit: () => void}} Actions */

/** What the root in which answers are shown adopts. */
export const answerSheet = sheet;

/** What is said under an answer. @param {AnswerHandle} handle @param {State} state @param {object} words */
export function noteOf(handle, state, words) {
  return statusWords(handle, state, { ...STATUS, ...words });
}

/** What the banner says, or "". @param {Thread} thread @param {boolean} refused @param {object} words */
export function bannerOf({ state, closed, degraded }, refused, words) {
  const said = { ...STATUS, ...words };
  return refused ? bannerWords("closed", { code: 4403, reason: "" }, said) : bannerWords(state, closed, said, degraded);
}

export class TurnView {
  /** Words about answers in general. */ static words = (/** @type {object} */ own) => ({ ...STATUS, ...own });

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
  #written = "";
  #markdown;

  /** @param {string} prompt @param {object} own words in place of the English ones @param {Actions} actions */
  constructor(prompt, own, { regenerate, edit }) {
    const words = TurnView.words(own);
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
    let said = "";
    for (const block of this.#text.children) {
      if (said.length < most) said += `${block.textContent} `;
    }
    return said.slice(0, most).trim();
  }

  /** @param {Shown} shown */
  show({ responseId, status, text, note, simulated, last, idle }) {
    const running = status === "sending" || status === "queued" || status === "in_progress";
    this.#written = text;
    this.#markdown.show(text, !running);
    this.#text.hidden = text === "";
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

  async #copyText() {
    await copy(this.#written);
    this.#copy.replaceChildren(icon(SIGNS.done));
    setTimeout(() => this.#copy.replaceChildren(icon(SIGNS.copy)), COPIED_MS);
  }
}
