// @ts-check
/** Shows the reviews of several files side by side, with a list of the files and a summary above them. */

import { button, make } from "./dom.js";
import { counted, countsText, SEVERITIES } from "./review-comments.js";
import { ReviewView } from "./review-view.js";

/** @typedef {import("./answer-handle.js").AnswerHandle} AnswerHandle */
/** @typedef {import("./connection.js").State} State */

/**
 * One file of a review.
 * @typedef {{
 *   name: string, language: string, code: string, diff: boolean, after: string, mine: boolean, handle: AnswerHandle,
 * }} Entry `diff`: the code is a numbered diff; `after`: the id of the review that this one repeats, or "";
 *   `mine`: the review was requested in this tab, which may therefore stop and repeat it
 */

let panes = 0;

/** Shows the review of one file under its name, with the buttons for this file. */
export class ReviewPane {
  element = make("article", "pane");
  view = new ReviewView();
  #title = make("h2", "pane-title");
  #stop = button("button stop-one", "Stop", () => this.entry.handle.stop(), "Stop");
  #again;

  /** Creates the pane. @param {Entry} entry @param {(pane: ReviewPane) => void} again repeats the review of the file */
  constructor(entry, again) {
    panes += 1;
    this.entry = entry;
    this.#title.id = `pane-${panes}`;
    this.#title.tabIndex = -1; // the list of files moves the focus here
    this.#again = button("button again", "Review again", () => again(this), "Review again");
    this.element.setAttribute("aria-labelledby", this.#title.id);
    this.element.append(make("header", "pane-head", this.#title, this.#stop, this.#again), this.view.element);
    this.setCode();
  }

  get name() {
    return this.entry.name || "Code";
  }

  /** Shows the code of the entry, which arrives later if the review was opened by its link. */
  setCode() {
    const { code, language, diff } = this.entry;
    this.#title.textContent = this.name;
    this.#stop.setAttribute("aria-label", `Stop: ${this.name}`);
    this.#again.setAttribute("aria-label", `Review again: ${this.name}`);
    if (code !== "") this.view.setCode(code, language, { diff, label: `The code of ${this.name}` });
  }

  /** Shows the current state. @param {State} state */
  show(state) {
    const { handle, mine, code } = this.entry;
    const { ended } = handle.answer;
    this.view.show(handle, state);
    this.#stop.hidden = ended || !mine;
    this.#stop.disabled = handle.stopping;
    this.#again.hidden = !ended || !mine || code === "";
  }

  focus() {
    this.element.scrollIntoView({ block: "start" });
    this.#title.focus({ preventScroll: true });
  }
}

export class ReviewBoard {
  element = make("div", "board");
  /** @type {ReviewPane[]} */
  panes;
  #summary = make("p", "summary");
  /** @type {{item: HTMLElement, state: HTMLElement, counts: HTMLElement, link: HTMLElement}[]} */
  #files;

  /** Creates the board. @param {Entry[]} entries @param {(pane: ReviewPane) => void} again repeats the review of a file */
  constructor(entries, again) {
    this.panes = entries.map((entry) => new ReviewPane(entry, again));
    this.element.classList.toggle("single", entries.length === 1);
    const list = make("ul", "file-states");
    list.setAttribute("aria-label", "Files of the review");
    this.#files = this.panes.map((pane) => {
      const link = button("file-link", "", () => pane.focus(), make("span", "file-title", pane.name));
      link.removeAttribute("aria-label");
      const [state, counts] = [make("span", "file-state"), make("span", "file-counts")];
      link.append(state, counts);
      const item = make("li", "", link);
      list.append(item);
      return { item, state, counts, link };
    });
    this.#summary.setAttribute("role", "status");
    this.element.append(
      make("section", "overview", this.#summary, list),
      make("div", "panes", ...this.panes.map(({ element }) => element)),
    );
  }

  /** Shows the current state. @param {State} state @param {ReadonlySet<ReviewPane>} changed the panes to draw again */
  show(state, changed) {
    for (const [index, pane] of this.panes.entries()) {
      if (!changed.has(pane)) continue;
      pane.show(state);
      this.#showFile(pane, this.#files[index]);
    }
    const words = this.#summaryWords();
    if (this.#summary.textContent !== words) this.#summary.textContent = words;
    this.element.dataset.state = this.panes.every(({ entry }) => entry.handle.answer.ended) ? "ended" : "running";
  }

  /** Shows the state of a file in the list. @param {ReviewPane} pane @param {{item: HTMLElement, state: HTMLElement, counts: HTMLElement, link: HTMLElement} | undefined} shown */
  #showFile({ name, entry, view }, shown) {
    if (!shown) return;
    const { item, state, counts, link } = shown;
    link.firstElementChild?.replaceChildren(name);
    state.textContent = STATES[entry.handle.answer.status];
    item.dataset.status = entry.handle.answer.status;
    counts.replaceChildren(...SEVERITIES.filter((severity) => view.counts[severity] > 0).map((severity) => {
      const count = make("span", "count", `${view.counts[severity]} ${severity}`);
      count.dataset.severity = severity;
      return count;
    }));
  }

  #summaryWords() {
    const answers = this.panes.map(({ entry }) => entry.handle.answer);
    const ended = answers.filter((answer) => answer.ended);
    if (ended.length < answers.length) return `${ended.length} of ${counted(answers.length, "file")} reviewed.`;
    const counts = { high: 0, medium: 0, low: 0 };
    for (const { view } of this.panes) for (const severity of SEVERITIES) counts[severity] += view.counts[severity];
    const incomplete = answers.filter(({ status }) => status !== "completed").length;
    const first = this.panes.filter(({ view }) => view.counts.high > 0).map(({ name }) => name);
    return [
      `${counted(answers.length, "file")} reviewed, ${countsText(counts)}.`,
      ...(first.length > 0 ? [`Begin with ${first.slice(0, 3).join(", ")}.`] : []),
      ...(incomplete > 0 ? [`${counted(incomplete, "review")} did not finish.`] : []),
    ].join(" ");
  }
}

/** @type {Readonly<Record<import("./response-state.js").Status, string>>} */
const STATES = {
  sending: "sending", queued: "waiting", in_progress: "writing", completed: "done", incomplete: "cut off", failed: "failed", cancelled: "stopped",
};
