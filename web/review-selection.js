// @ts-check
/** Lists the files that a user has dropped or chosen, and lets the user select which of them are reviewed. */

import { make } from "./dom.js";
import { sizesIn } from "./file-list.js";
import { counted } from "./review-comments.js";
import { fit, MAX_FILES, MAX_REVIEW_BYTES, sizeOf } from "./review-files.js";

/** @typedef {import("./review-files.js").Source} Source */

const size = sizesIn("en");

export class ReviewSelection {
  element = make("div", "selection");
  #total = make("p", "selection-total");
  /** @type {{source: Source, box: HTMLInputElement, bytes: number}[]} */
  #entries;

  /**
   * Lists files. Those that fit into one review are selected.
   * @param {Source[]} sources @param {import("./review-files.js").Skipped} skipped
   */
  constructor(sources, skipped) {
    const selected = new Set(fit(sources).fitting);
    const list = make("ul", "selection-list");
    list.setAttribute("aria-label", "Files");
    this.#entries = sources.map((source) => {
      const box = make("input");
      box.type = "checkbox";
      box.checked = selected.has(source);
      const bytes = sizeOf(source.code);
      list.append(make("li", "", make("label", "", box, make("span", "selection-name", source.name), make("span", "selection-size", size(bytes)))));
      return { source, box, bytes };
    });
    this.#total.setAttribute("role", "status");
    list.addEventListener("change", () => this.#showTotal());
    this.element.append(this.#total, list);
    const reasons = skipped.lines();
    if (reasons.length > 0) {
      const items = reasons.map((reason) => make("li", "", reason));
      this.element.append(make("p", "skipped-title", "Not reviewed:"), make("ul", "skipped", ...items));
    }
    this.#showTotal();
  }

  /** The selected files. */
  get sources() {
    return this.#entries.filter(({ box }) => box.checked).map(({ source }) => source);
  }

  /** Why the selection cannot be reviewed, or "". */
  get problem() {
    const { files, bytes } = this.#sums();
    if (files === 0) return "No file is selected.";
    if (files > MAX_FILES) return `A review has at most ${MAX_FILES} files. Deselect ${files - MAX_FILES} of them.`;
    if (bytes > MAX_REVIEW_BYTES) return `The files of a review have at most ${size(MAX_REVIEW_BYTES)} together. Deselect some of them.`;
    return "";
  }

  #sums() {
    const selected = this.#entries.filter(({ box }) => box.checked);
    return { files: selected.length, bytes: selected.reduce((sum, { bytes }) => sum + bytes, 0) };
  }

  #showTotal() {
    const { files, bytes } = this.#sums();
    const of = `${counted(this.#entries.length, "file")} found, ${files} selected (at most ${MAX_FILES})`;
    this.#total.textContent = `${of}: ${size(bytes)} of ${size(MAX_REVIEW_BYTES)}.`;
  }
}
