// @ts-check
/** Shows the review of one file: its code with the comments at their lines, the rest of the text, and a status line. */

import { button, make } from "./dom.js";
import { Markdown } from "./markdown.js";
import { countBySeverity, reviewOf } from "./review-comments.js";
import { CommentView, keyOf, ReviewListing } from "./review-listing.js";
import { linesAt, nextLines, SECTIONS } from "./review-text.js";
import { SIMULATION, STATUS, statusWords } from "./status.js";

/** @typedef {import("./answer-handle.js").AnswerHandle} AnswerHandle */
/** @typedef {import("./review-comments.js").Comment} Comment */

const TITLES = { improvements: "Improvements", complexity: "Complexity", bugs: "Bugs" };

let views = 0;

export class ReviewView {
  element = make("div", "sections");
  /** The counts of the comments by severity. */
  counts = countBySeverity([]);
  /** @type {string} */ words = "";
  #note = make("p", "review-note");
  #tag = make("span", "review-tag", "simulation");
  #code = make("div", "review-code");
  #atFile = make("div", "at-file");
  #preface;
  /** @type {ReviewListing | null} */
  #listing = null;
  /** @type {CommentView[]} */
  #comments = [];
  /** @type {{section: import("./review-text.js").Section, card: HTMLElement, points: HTMLElement, text: Markdown}[]} */
  #cards = [];

  constructor() {
    views += 1;
    const extensions = {
      inline: [(/** @type {string} */ text) => {
        const lines = linesAt(text);
        return lines ? { type: "lines", ...lines } : undefined;
      }],
      startInline: [nextLines],
      childTokens: {},
      make: { lines: (/** @type {any} */ token) => lineButton(token, (first, last) => this.#listing?.mark(first, last)) },
    };
    const preface = make("div", "review-text preface");
    this.#preface = new Markdown(preface, STATUS, extensions);
    const notes = make("div", "notes", make("div", "review-state", make("span", "review-dot"), this.#note, this.#tag), preface);
    this.#tag.hidden = true;
    this.#note.setAttribute("role", "status");
    for (const section of SECTIONS) {
      const body = make("div", "review-text");
      const points = make("p", "points");
      const title = make("h3", "", TITLES[section]);
      const card = make("div", `card ${section}`, title, body, points);
      title.id = `title-${views}-${section}`;
      card.setAttribute("role", "group"); // regions would need different names in each file
      card.setAttribute("aria-labelledby", title.id);
      this.#cards.push({ section, card, points, text: new Markdown(body, STATUS, extensions) });
      notes.append(card);
    }
    this.element.append(make("div", "review-file", this.#atFile, this.#code), notes);
  }

  /** Shows the code under review. @param {string} code @param {string} language @param {{diff: boolean, label: string}} how */
  setCode(code, language, how) {
    this.#listing = new ReviewListing(code, language, how);
    this.#code.replaceChildren(this.#listing.element);
    for (const comment of this.#comments) comment.element.remove();
    this.#comments = []; // the next `show` inserts them again, at their lines
  }

  /** Shows the current state of a review. @param {AnswerHandle} handle @param {import("./connection.js").State} state */
  show(handle, state) {
    const { answer } = handle;
    const running = !answer.ended;
    const { comments, rest } = reviewOf(answer.text, running);
    this.#showComments(comments, running);
    this.#preface.show(withoutTitle(rest.preface), !running);
    const has = (/** @type {string} */ name) => comments.filter(({ section }) => section === name).length;
    const begun = this.#cards.findLastIndex(({ section }) => rest[section].trim() !== "" || has(section) > 0);
    for (const [index, { section, card, points, text }] of this.#cards.entries()) {
      text.show(rest[section], !running || index < begun);
      card.dataset.state = index < begun || !running ? "done" : index === begun ? "writing" : "waiting";
      card.setAttribute("aria-busy", String(running && index === begun));
      const words = has(section) === 0 ? "" : has(section) === 1 ? "1 comment at its line" : `${has(section)} comments at their lines`;
      if (points.textContent !== words) points.textContent = words;
    }
    this.words = statusWords(handle, state);
    if (this.#note.textContent !== this.words) this.#note.textContent = this.words;
    this.#tag.hidden = answer.model !== SIMULATION;
    this.element.dataset.status = answer.status;
    if (answer.responseId) this.element.dataset.responseId = answer.responseId;
  }

  /** Shows the comments at their lines, or above the code if it has no such line. @param {Comment[]} comments @param {boolean} running */
  #showComments(comments, running) {
    this.counts = countBySeverity(comments);
    for (const [index, comment] of comments.entries()) {
      let view = this.#comments[index];
      if (view?.key !== keyOf(comment)) {
        this.#removeFrom(index);
        view = new CommentView(comment, () => this.#listing?.mark(comment.first, comment.last));
        this.#comments.push(view);
        if (this.#listing?.has(comment.first) || this.#listing?.has(comment.last)) this.#listing.insert(view, comment);
        else this.#atFile.append(view.element);
      }
      view.show(comment.text, !running || index < comments.length - 1);
    }
    this.#removeFrom(comments.length);
  }

  /** Removes comments: another attempt has discarded them. @param {number} index */
  #removeFrom(index) {
    for (const view of this.#comments.splice(index)) view.element.remove();
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
