// @ts-check
/** Shows one prompt and its answer. */

import { AsideView } from "./aside-view.js";
import { cited } from "./citations.js";
import { button, icon, make, name } from "./dom.js";
import { FeedbackView } from "./feedback.js";
import { fileList, partsOf } from "./file-list.js";
import { textAsWritten } from "./formula.js";
import { Markdown } from "./markdown.js";
import { COPIED_MS, copy, SIGNS } from "./signs.js";

/** @typedef {import("./response-state.js").Status} Status */

/**
 * The content of an answer.
 * @typedef {{
 *   repeats: boolean, replying: import("./tool-view.js").Replying, responseId: string | null, status: Status, text: string, aside: import("./aside.js").Aside | null, note: string, simulated: boolean, last: boolean, idle: boolean, branches: boolean,
 * }} Shown `note` is the line under the text; an answer that is `last` and `idle` can be regenerated, if
 *   this page has the request, which `repeats` tells; with `branches`, each prompt can be edited
 */

/** @typedef {{regenerate: () => void, edit: () => void}} Actions */

export class TurnView {
  element = make("div", "turn");
  #answer = make("article", "answer");
  #text = make("div", "text");
  #tag;
  #note = make("span", "note");
  #actions = make("div", "actions");
  /** The button that repeats the prompt: it shows text after a failure, and an icon beside an answer. */
  #again;
  #regenerate;
  #edit;
  #copy;
  #status = "";
  /** True if the turn replies to calls, and so has no prompt. */ #isReply = false;
  /** @type {Element | null} */ #growing = null;
  #written = "";
  #markdown;
  /** @type {AsideView | null} */ #aside = null;
  /** @type {FeedbackView | null} */ #feedback = null;

  /** Creates the elements of a prompt and its answer.
   * @param {import("./conversation.js").Turn} turn @param {import("./status.js").StatusWords} words
   * @param {{size: (bytes: number) => string, time: (at: number) => Node, user: string, assistant: string, rate: ((feedback: import("./feedback.js").Feedback) => void) | null}} how
   *   the names are "" if the page names nobody, and `rate` is null if the page wants no feedback
   * @param {Actions} actions
   */
  constructor(turn, words, { size, time, user, assistant, rate }, { regenerate, edit }) {
    this.words = words;
    this.#markdown = new Markdown(this.#text, words);
    this.#tag = make("span", "tag", words.simulation);
    this.#again = button("again", words.again, regenerate, words.again);
    this.#copy = button("action copy", words.copyAnswer, () => void this.#copyText(), icon(SIGNS.copy));
    this.#regenerate = button("action regenerate", words.regenerate, regenerate, icon(SIGNS.again));
    this.#edit = button("action edit", words.edit, edit, icon(SIGNS.edit));
    this.#actions.append(this.#again, this.#copy, this.#regenerate, this.#edit);
    if (rate) this.#feedback = new FeedbackView(words, turn.feedback, rate);
    this.#actions.append(...(this.#feedback ? [this.#feedback.thumbs] : []));
    name(this.#answer, words.answer);
    const line = make("div", "line", make("span", "dot"), this.#note, this.#tag, time(turn.at));
    this.#answer.append(this.#text, line, this.#actions, ...(this.#feedback ? [this.#feedback.form] : []));
    const prompt = make("div", "prompt", make("span", "unseen", words.you), turn.prompt);
    if (turn.files) prompt.append(fileList(turn.files, partsOf(turn), { label: words.attached, size }));
    if (assistant) this.#answer.prepend(make("p", "name", assistant));
    this.element.append(this.#answer);
    this.#isReply = turn.prompt === "" && !turn.files;
    if (this.#isReply) return;
    this.#answer.before(prompt);
    if (user) prompt.before(make("p", "name user-name", user));
  }

  /** Shows the feedback that the visitor has given elsewhere. @param {import("./feedback.js").Feedback} feedback */
  giveFeedback(feedback) {
    this.#feedback?.give(feedback);
  }

  /** Shows that the server refuses the visitor's feedback. */
  refuseFeedback() {
    this.#feedback?.refuse();
  }

  /** Returns the beginning of the answer as spoken text, block by block. @param {number} most the maximum number of characters */
  spoken(most) {
    let text = "";
    for (const block of this.#text.children) {
      if (text.length < most) text += `${textAsWritten(block)} `;
    }
    return text.slice(0, most).trim();
  }

  /** Draws the current state of the answer. @param {Shown} shown */
  show({ responseId, status, text, aside, note, simulated, last, idle, repeats, replying, branches }) {
    const running = status === "sending" || status === "queued" || status === "in_progress";
    this.#written = text;
    this.#markdown.sources = aside?.sources.map(({ url }) => url) ?? [];
    this.#markdown.show(running ? text : cited(text, aside?.marks ?? []), !running);
    this.#mark(running ? this.#text.lastElementChild : null);
    this.#text.hidden = text === "";
    if (aside) this.#showAside(aside, replying);
    if (this.#note.textContent !== note) this.#note.textContent = note;
    const asked = last && idle && !running;
    this.#tag.hidden = !simulated;
    const unanswered = status === "failed" || status === "cancelled";
    this.#again.hidden = !(asked && repeats && unanswered);
    this.#copy.hidden = running || text === "";
    this.#regenerate.hidden = !(asked && repeats && !unanswered);
    this.#edit.hidden = !(asked || (branches && idle && !running)) || this.#isReply;
    if (this.#feedback) this.#feedback.thumbs.hidden = status !== "completed" && status !== "incomplete";
    this.#actions.hidden = this.#copy.hidden && this.#edit.hidden && this.#again.hidden;
    if (responseId !== null) this.#answer.dataset.responseId = responseId;
    if (status === this.#status) return;
    this.#status = status;
    this.#answer.dataset.status = status;
    this.#answer.setAttribute("aria-busy", String(running)); // a screen reader announces the answer once, when it is complete
  }

  /** Draws the thoughts, tools and sources of the answer, in elements that it creates when they are first needed.
   * @param {import("./aside.js").Aside} aside @param {import("./tool-view.js").Replying} replying
   */
  #showAside(aside, replying) {
    if (this.#aside === null) {
      this.#aside = new AsideView(this.words);
      this.#text.before(this.#aside.above);
      this.#text.after(this.#aside.below);
    }
    this.#aside.show(aside, replying);
  }

  /** Marks the block that grows. A CSS rule for the last block would restyle all blocks at each change.
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
