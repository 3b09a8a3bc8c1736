// @ts-check
/** Asks the visitor about an answer: two thumbs, and a comment for those who want to explain. */

import { button, icon, make } from "./dom.js";
import { SIGNS } from "./signs.js";

/** The visitor's feedback on an answer; `rating` is null if the visitor has given none, or has taken it back. @typedef {{rating: "up" | "down" | null, comment: string}} Feedback */

/** The longest comment in characters. */
const LONGEST_COMMENT = 2_000;

export class FeedbackView {
  /** The thumbs, which stand beside the other actions. */
  thumbs = make("span", "thumbs");
  /** The form for the comment, below the actions. */
  form = make("form", "feedback");
  #field = make("textarea", "feedback-comment");
  #thanks = make("span", "feedback-thanks");
  #buttons;

  /**
   * Creates the hidden elements.
   * @param {import("./status.js").StatusWords} words @param {Feedback | undefined} given the feedback so far
   * @param {(feedback: Feedback) => void} changed
   */
  constructor(words, given, changed) {
    this.words = words;
    /** @type {Feedback} */
    this.feedback = given ?? { rating: null, comment: "" };
    this.changed = changed;
    this.#buttons = /** @type {const} */ (["up", "down"]).map((rating) => {
      const thumb = button(`action thumb ${rating}`, rating === "up" ? words.good : words.bad, () => this.#rate(rating), icon(SIGNS[rating]));
      this.thumbs.append(thumb);
      return { rating, thumb };
    });
    this.#field.maxLength = LONGEST_COMMENT;
    this.#field.rows = 2;
    this.#field.value = this.feedback.comment;
    this.#field.placeholder = words.comment;
    this.#field.setAttribute("aria-label", words.comment);
    this.#thanks.setAttribute("role", "status");
    this.form.append(this.#field, make("button", "again", words.sendComment), this.#thanks);
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#set({ ...this.feedback, comment: this.#field.value.trim() });
      this.#thanks.textContent = words.thanks;
    });
    this.form.hidden = true;
    this.#draw();
  }

  /** Shows feedback that the visitor has given elsewhere. A comment that is being written stays. @param {Feedback} feedback */
  give(feedback) {
    if (isSame(feedback, this.feedback)) return;
    if (this.#field.value === this.feedback.comment) this.#field.value = feedback.comment;
    if (feedback.rating === null) this.form.hidden = true;
    this.feedback = feedback;
    this.#thanks.textContent = "";
    this.#draw();
  }

  /** Shows that the server refuses the feedback. */
  refuse() {
    this.form.hidden = false;
    this.#thanks.textContent = this.words.notSaved;
  }

  /** Rates the answer, or takes the rating back. @param {"up" | "down"} rating */
  #rate(rating) {
    const isTakenBack = this.feedback.rating === rating;
    this.form.hidden = isTakenBack;
    if (isTakenBack) this.#field.value = "";
    this.#thanks.textContent = "";
    this.#set(isTakenBack ? { rating: null, comment: "" } : { ...this.feedback, rating });
  }

  /** Keeps feedback, and reports it if it has changed. @param {Feedback} feedback */
  #set(feedback) {
    const before = this.feedback;
    this.feedback = feedback;
    this.#draw();
    if (!isSame(feedback, before)) this.changed(feedback);
  }

  #draw() {
    for (const { rating, thumb } of this.#buttons) thumb.setAttribute("aria-pressed", String(rating === this.feedback.rating));
  }
}

/** @param {Feedback} one @param {Feedback} other */
const isSame = (one, other) => one.rating === other.rating && one.comment === other.comment;
