// @ts-check
/** Shows code with line numbers, marked lines, and the comments of a review under their lines. */

import { colour } from "./code.js";
import { numberedLines } from "./diff.js";
import { make } from "./dom.js";
import { Markdown } from "./markdown.js";
import { linesText } from "./review-comments.js";
import { STATUS } from "./status.js";

/** @typedef {import("./review-comments.js").Comment} Comment */
/** @typedef {import("./diff.js").DiffLine} DiffLine */

const KINDS = { " ": "", "+": "added", "-": "removed", "@": "hunk" };

export class ReviewListing {
  element = make("div", "listing");
  #rows = make("div", "rows");
  /** The row of each line number. @type {Map<number, HTMLElement>} */
  #rowOf = new Map();
  /** @type {HTMLElement[]} */
  #marked = [];

  /**
   * Creates the listing of code, or of a numbered diff.
   * @param {string} code @param {string} language @param {{diff: boolean, label: string}} how `label` is the accessible name
   */
  constructor(code, language, { diff, label }) {
    /** @type {DiffLine[]} */
    const lines = (diff ? numberedLines(code) : null) ?? code.split("\n").map((text, index) => ({ kind: " ", number: index + 1, text }));
    const digits = String(Math.max(...lines.map(({ number }) => number ?? 0))).length;
    this.element.style.setProperty("--digits", String(digits));
    this.element.tabIndex = 0; // makes the code scrollable by keyboard
    this.element.setAttribute("role", "group");
    this.element.setAttribute("aria-label", label);
    const texts = lines.map(({ kind, number, text }) => {
      const written = make("code", "row-text", text);
      const margin = make("span", "number");
      // The style sheet draws the number and the sign, so that they are not copied with the code.
      margin.dataset.number = String(number ?? "");
      margin.dataset.sign = diff && kind !== "@" ? kind : "";
      const row = make("div", `row ${KINDS[kind]}`.trim(), margin, written);
      if (number !== null) this.#rowOf.set(number, row);
      this.#rows.append(row);
      return kind === "@" ? null : written;
    });
    this.element.append(this.#rows);
    void highlight(lines.map(({ text }) => text).join("\n"), language, texts);
  }

  /** Returns true if the code has a line with this number. @param {number} number */
  has(number) {
    return this.#rowOf.has(number);
  }

  /** Inserts a comment under the last of its lines that exists. @param {CommentView} view @param {Comment} comment */
  insert(view, { first, last }) {
    let number = last;
    while (number > first && !this.has(number)) number -= 1;
    let place = /** @type {Element | undefined} */ (this.#rowOf.get(number));
    while (place?.nextElementSibling?.classList.contains("comment")) place = place.nextElementSibling;
    place?.after(view.element);
  }

  /** Marks a range of lines and scrolls to it. @param {number} first @param {number} last */
  mark(first, last) {
    for (const row of this.#marked) row.classList.remove("marked");
    const most = Math.max(...this.#rowOf.keys());
    const [from, to] = [Math.min(first, most), Math.min(last, most)];
    this.#marked = [...this.#rowOf].flatMap(([number, row]) => (number >= from && number <= to ? [row] : []));
    for (const row of this.#marked) row.classList.add("marked");
    this.element.dataset.marked = from === to ? `${from}` : `${from}-${to}`;
    // Only the listing scrolls, so that the review keeps its position on the page.
    const row = this.#marked[0];
    if (row) this.element.scrollTop = row.offsetTop - this.element.clientHeight / 3;
  }
}

/** One comment: its severity, its lines and its text, which grows while it is written. */
export class CommentView {
  element = make("div", "comment");
  #text;

  /** Creates the view. @param {Comment} comment @param {() => void} show marks the lines of the comment */
  constructor(comment, show) {
    const body = make("div", "review-text");
    body.dir = "auto";
    const lines = make("button", "line-link", linesText(comment));
    lines.type = "button";
    lines.addEventListener("click", show);
    this.element.append(make("div", "comment-head", make("span", "severity", comment.severity), lines), body);
    this.element.dataset.severity = comment.severity;
    this.element.setAttribute("role", "note");
    this.element.setAttribute("aria-label", `${comment.severity}, ${linesText(comment)}`);
    this.key = keyOf(comment);
    this.#text = new Markdown(body, STATUS);
  }

  /** Shows the text of the comment. @param {string} text @param {boolean} whole */
  show(text, whole) {
    this.#text.show(text, whole);
  }
}

/** Returns a key that differs if a comment needs another view. @param {Comment} comment */
export const keyOf = (comment) => `${comment.severity} ${linesText(comment)}`;

/** Highlights code and distributes it over the elements of its lines. @param {string} code @param {string} language @param {(HTMLElement | null)[]} lines */
async function highlight(code, language, lines) {
  const whole = make("code", "", code);
  await colour(whole, language);
  if (whole.childElementCount === 0) return;
  const coloured = linesOf(whole);
  for (const [index, line] of lines.entries()) line?.replaceChildren(coloured[index] ?? "");
}

/** Divides highlighted code into its lines. An element that spans lines is repeated in each of them. @param {Node} whole */
function linesOf(whole) {
  let line = document.createDocumentFragment();
  const lines = [line];
  /** The elements that are open at the current position, and their copies in the current line. @type {{of: Node, copy: Node}[]} */
  const open = [];
  const parent = () => open.at(-1)?.copy ?? line;
  /** @param {Node} node */
  const add = (node) => {
    if (!(node instanceof Text)) {
      const copy = node.cloneNode(false);
      parent().appendChild(copy);
      open.push({ of: node, copy });
      for (const child of node.childNodes) add(child);
      open.pop();
      return;
    }
    for (const [index, text] of node.data.split("\n").entries()) {
      if (index > 0) {
        line = document.createDocumentFragment();
        lines.push(line);
        for (const [depth, entry] of open.entries()) {
          entry.copy = entry.of.cloneNode(false);
          (open[depth - 1]?.copy ?? line).appendChild(entry.copy);
        }
      }
      if (text) parent().appendChild(document.createTextNode(text));
    }
  };
  for (const child of whole.childNodes) add(child);
  return lines;
}
