// @ts-check
/** A table of the console: a bounded number of rows, which keep their elements while their contents change. */

import { button, make } from "./dom.js";
import { count } from "./console-format.js";

/** The number of rows that a table shows at first, and that each click on "Show more" adds. */
const PAGE = 10;

/**
 * @template Row
 * @typedef {{
 *   title: string, show: (cell: HTMLElement, row: Row) => void,
 *   kind?: "number" | "wide" | "main",
 * }} Column `show` fills a cell; `number` aligns right; `main` is the heading of the row
 */

/**
 * @template Row
 * @typedef {{title: string, columns: Column<Row>[], key: (row: Row) => string, text: (row: Row) => string, empty: string}} Kind
 *   `text` is what the filter searches
 */

/** @template Row */
export class List {
  element;
  #body = make("tbody");
  #count = make("span", "list-count");
  #note = make("p", "list-note");
  #more;
  #scroll;
  /** @type {Map<string, {line: HTMLTableRowElement, cells: HTMLElement[]}>} */
  #lines = new Map();
  #shown = PAGE;
  /** @type {Row[]} */
  #rows = [];
  #total = 0;
  #filter = "";

  /** @param {Kind<Row>} kind */
  constructor(kind) {
    this.kind = kind;
    const heads = kind.columns.map(({ title, kind: type = "" }) => {
      const head = make("th", type, title);
      head.scope = "col";
      head.setAttribute("role", "columnheader");
      return head;
    });
    const headLine = make("tr", "", ...heads);
    const head = make("thead", "", headLine);
    const table = make("table", "list", head, this.#body);
    const title = make("h2", "", kind.title, this.#count);
    title.id = `list-${kind.title.toLowerCase().replaceAll(" ", "-")}`;
    // On a phone the rows are not displayed as a table, which would remove these roles.
    for (const [element, role] of /** @type {[Element, string][]} */ ([[table, "table"], [head, "rowgroup"], [this.#body, "rowgroup"], [headLine, "row"]])) {
      element.setAttribute("role", role);
    }
    table.setAttribute("aria-labelledby", title.id);
    this.#scroll = make("div", "list-scroll", table);
    this.#more = button("button more", "", () => this.#showMore(), "Show more");
    this.#more.removeAttribute("aria-label");
    this.element = make("section", "panel", title, this.#note, this.#scroll, this.#more);
    this.element.setAttribute("aria-labelledby", title.id);
    this.#draw();
  }

  /** Shows rows. `total` may be larger than their number. @param {Row[]} rows @param {number} total @param {string} filter */
  update(rows, total, filter) {
    if (filter !== this.#filter) this.#shown = PAGE;
    this.#rows = rows;
    this.#total = total;
    this.#filter = filter;
    this.#draw();
  }

  #showMore() {
    this.#shown += PAGE;
    const first = this.#body.children.length;
    this.#draw();
    // The button may have gone, so the focus moves to the first new row.
    const line = /** @type {HTMLElement | undefined} */ (this.#body.children[first]);
    if (line) line.tabIndex = -1;
    line?.focus();
  }

  #draw() {
    const wanted = this.#filter.toLowerCase();
    const found = wanted ? this.#rows.filter((row) => this.kind.text(row).toLowerCase().includes(wanted)) : this.#rows;
    const drawn = found.slice(0, this.#shown);
    const keys = new Set(drawn.map(this.kind.key));
    for (const [key, { line }] of this.#lines) {
      if (keys.has(key)) continue;
      line.remove();
      this.#lines.delete(key);
    }
    for (const [index, row] of drawn.entries()) this.#drawRow(index, row);
    setText(this.#count, this.#total ? count(this.#total) : "");
    setText(this.#note, this.#noteFor(found.length));
    this.#note.hidden = this.#note.textContent === "";
    this.#scroll.hidden = drawn.length === 0;
    this.#more.hidden = drawn.length === found.length;
  }

  /** Returns the text below the title. @param {number} found */
  #noteFor(found) {
    if (this.#total === 0) return this.kind.empty;
    const first = this.#rows.length < this.#total ? `the first ${count(this.#rows.length)} of ${count(this.#total)}` : "";
    if (this.#filter && found === 0) return `No match in ${first || "this list"}.`;
    return first && `Shows ${first}.`;
  }

  /** @param {number} index @param {Row} row */
  #drawRow(index, row) {
    const key = this.kind.key(row);
    let made = this.#lines.get(key);
    if (!made) {
      const cells = this.kind.columns.map(({ title, kind = "" }) => {
        const cell = make(kind === "main" ? "th" : "td", kind);
        cell.setAttribute("role", kind === "main" ? "rowheader" : "cell");
        cell.dataset.title = title;
        return cell;
      });
      made = { line: make("tr", "", ...cells), cells };
      made.line.setAttribute("role", "row");
      this.#lines.set(key, made);
    }
    for (const [place, column] of this.kind.columns.entries()) column.show(/** @type {HTMLElement} */ (made.cells[place]), row);
    if (this.#body.children[index] !== made.line) this.#body.insertBefore(made.line, this.#body.children[index] ?? null);
  }
}

/** Sets the text of an element, if it differs, so that a selection survives. @param {Element} element @param {string} text */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Returns the child of a cell, which is made once.
 * @template {Element} Made
 * @param {HTMLElement} cell
 * @param {() => Made} makeIt
 * @returns {Made}
 */
export function once(cell, makeIt) {
  if (!cell.firstElementChild) cell.append(makeIt());
  return /** @type {Made} */ (cell.firstElementChild);
}

/** Shows a state as a coloured word. @param {HTMLElement} cell @param {string} word @param {"good" | "warn" | "bad" | "quiet"} tone */
export function chip(cell, word, tone) {
  const made = once(cell, () => make("span", "chip"));
  if (made.dataset.tone !== tone) made.dataset.tone = tone;
  setText(made, word);
}

/** Shows a share as a bar with a text. `normal` if a full bar is no problem. @param {HTMLElement} cell @param {number} share @param {string} text @param {boolean} [normal] */
export function bar(cell, share, text, normal = false) {
  const made = once(cell, () => make("span", "meter", make("span", "meter-fill"), make("span", "meter-text")));
  const [fill, label] = made.children;
  /** @type {HTMLElement} */ (fill).style.setProperty("--share", String(Math.min(1, Math.max(0, share))));
  made.dataset.tone = normal ? "good" : share >= 1 ? "bad" : share >= 0.8 ? "warn" : "good";
  setText(/** @type {Element} */ (label), text);
}
