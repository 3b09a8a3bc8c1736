// @ts-check
/**
 * Sends the visitor's feedback on answers to the server, and fetches it. Feedback stays in the storage until the server has
 * answered, so a lost connection or a reload only delays it. Only the last feedback on an answer is kept, and sending it twice is
 * harmless.
 */

import { callResponse } from "./call.js";
import { TURN_LIMIT } from "./conversation.js";

/** @typedef {import("./feedback.js").Feedback} Feedback */
/** @typedef {import("./thread.js").Thread} Thread */

/** The time until feedback is sent again, unless the connection is established earlier or the server states a time. */
const AGAIN_MS = 30_000;
/** The end of the storage key. */
const UNSENT = "!";
/** The statuses of refusals that may be over later, apart from those of a failing server. */
const TEMPORARY = [401, 408, 425, 429];

export class FeedbackOutbox {
  #isSending = false;
  /** @type {any} */ #timer = 0;
  /** The feedback that did not fit into a full storage, by its key. @type {Map<string, [string, Feedback][]>} */ #unstored = new Map();

  /** Sends what is left from an earlier page.
   * @param {Thread} thread
   * @param {(responseId: string) => void} refused called if the server refuses feedback for good
   */
  constructor(thread, refused) {
    this.thread = thread;
    this.refused = refused;
    thread.addEventListener("state", () => thread.state === "open" && void this.send());
    void this.send();
  }

  /** Keeps feedback in the place of earlier feedback, and sends it. @param {string} responseId @param {Feedback} feedback */
  add(responseId, feedback) {
    this.#write([...this.#read().filter(([id]) => id !== responseId), [responseId, feedback]]);
    void this.send();
  }

  /** Returns the unsent feedback on an answer, or else that of the server. Rejects if the server cannot be reached.
   * @param {string} responseId @returns {Promise<Feedback>}
   */
  async get(responseId) {
    const [, unsent] = this.#read().find(([id]) => id === responseId) ?? [];
    if (unsent) return unsent;
    const reply = await callResponse(this.thread, `${responseId}/feedback`);
    if (reply?.ok) return reply.json();
    if (!reply || isTemporary(reply)) throw new Error("the feedback cannot be fetched now");
    return { rating: null, comment: "" };
  }

  /** Sends all unsent feedback, one answer after the other. */
  async send() {
    if (this.#isSending) return;
    clearTimeout(this.#timer);
    this.#isSending = true;
    for (let [first] = this.#read(); first; [first] = this.#read()) {
      const [owner, written] = [this.thread.owner, JSON.stringify(first)];
      const again = await this.#post(...first).catch(() => AGAIN_MS);
      if (again > 0) {
        if (this.thread.begun) this.#timer = setTimeout(() => void this.send(), again);
        break;
      }
      if (owner === this.thread.owner) this.#write(this.#read().filter((each) => JSON.stringify(each) !== written));
    }
    this.#isSending = false;
  }

  /** Returns 0 if the server has answered for good, and otherwise the time in milliseconds until the next attempt.
   * @param {string} responseId @param {Feedback} feedback
   */
  async #post(responseId, feedback) {
    const reply = await callResponse(this.thread, `${responseId}/feedback`, feedback);
    if (!reply) return AGAIN_MS;
    if (reply.ok) return 0;
    if (isTemporary(reply)) return 1_000 * Number(reply.headers.get("Retry-After")) || AGAIN_MS;
    this.refused(responseId);
    return 0;
  }

  get #name() {
    return this.thread.conversation.name + UNSENT;
  }

  /** Returns the unsent feedback. @returns {[string, Feedback][]} */
  #read() {
    try {
      return this.#unstored.get(this.#name) ?? JSON.parse(this.thread.conversation.storage.getItem(this.#name) ?? "[]");
    } catch {
      return [];
    }
  }

  /** @param {[string, Feedback][]} unsent */
  #write(unsent) {
    const { storage } = this.thread.conversation;
    this.#unstored.delete(this.#name);
    if (unsent.length === 0) return storage.removeItem(this.#name);
    const last = unsent.slice(-TURN_LIMIT);
    try {
      storage.setItem(this.#name, JSON.stringify(last));
    } catch {
      this.#unstored.set(this.#name, last);
    }
  }
}

/** Returns true if the server may accept the same request later. @param {Response} reply */
const isTemporary = ({ status }) => status >= 500 || TEMPORARY.includes(status);
