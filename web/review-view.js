// @ts-check
/** Shows a review: its sections as they are written, and a status line. */

import { button, make } from "./dom.js";
import { Markdown } from "./markdown.js";
import { linesAt, nextLines, SECTIONS, sectionsOf } from "./review-text.js";
import { SIMULATION, STATUS, statusWords } from "./status.js";

/** @typedef {import("./answer-handle.js").AnswerHandle} AnswerHandle */

const TITLES = { improvements: "Improvements", complexity: "Complexity", bugs: "Bugs" };

export class ReviewView {
  element = make("div", "sections");
  #note = make("p", "review-note");
  #tag = make("span", "review-tag", "simulation");
  #preface;
  /** @type {{section: import("./review-text.js").Section, card: HTMLElement, body: Element, text: Markdown}[]} */
  #cards = [];

  /** Creates the view. A click on a reference to lines of the code calls `showLines`.
   * @param {(first: number, last: number) => void} showLines
   */
  constructor(showLines) {
    const extensions = {
      inline: [(/** @type {string} */ text) => {
        const lines = linesAt(text);
        return lines ? { type: "lines", ...lines } : undefined;
      }],
      startInline: [nextLines],
      childTokens: {},
      make: { lines: (/** @type {any} */ token) => lineButton(token, showLines) },
    };
    this.element.append(make("div", "review-state", make("span", "review-dot"), this.#note, this.#tag));
    this.#tag.hidden = true;
    this.#note.setAttribute("role", "status");
    const preface = make("div", "review-text preface");
    this.#preface = new Markdown(preface, STATUS, extensions);
    this.element.append(preface);
    for (const section of SECTIONS) {
      const body = make("div", "review-text");
      const title = make("h2", "", TITLES[section]);
      const card = make("section", `card ${section}`, title, body);
      title.id = `title-${section}`;
      card.setAttribute("aria-labelledby", title.id);
      this.#cards.push({ section, card, body, text: new Markdown(body, STATUS, extensions) });
      this.element.append(card);
    }
  }

  /** Shows the current state of a review. @param {AnswerHandle} handle @param {import("./connection.js").State} state */
  show(handle, state) {
    const { answer } = handle;
    const parts = sectionsOf(answer.text);
    const running = !answer.ended;
    this.#preface.show(withoutTitle(parts.preface), !running);
    const begun = this.#cards.findLastIndex(({ section }) => parts[section] !== "");
    for (const [index, { section, card, text }] of this.#cards.entries()) {
      text.show(parts[section], !running || index < begun);
      card.dataset.state = index < begun || !running ? "done" : index === begun ? "writing" : "waiting";
      card.setAttribute("aria-busy", String(running && index === begun));
    }
    const words = statusWords(handle, state);
    if (this.#note.textContent !== words) this.#note.textContent = words;
    this.#tag.hidden = answer.model !== SIMULATION;
    this.element.dataset.status = answer.status;
    if (answer.responseId) this.element.dataset.responseId = answer.responseId;
  }
}

/** Removes the title of a review, because the page already has one. @param {string} text */
const withoutTitle = (text) => text.replace(/^\s*# [^\n]*\n?/, "");

/** Makes the button of a line reference.
 * @param {{raw: string, first: number, last: number}} token @param {(first: number, last: number) => void} showLines
 */
function lineButton(token, showLines) {
  let lines = token;
  const made = button("line-link", "", () => showLines(lines.first, lines.last), token.raw);
  made.removeAttribute("aria-label");
  return {
    node: made,
    update(/** @type {typeof token} */ next) {
      lines = next;
      made.textContent = next.raw;
    },
  };
}
