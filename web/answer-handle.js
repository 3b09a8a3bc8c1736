// @ts-check
/**
 * One ask, from the prompt to the verified answer, across any number of sockets.
 *
 * Until the server has named the response, the request is what is sent after a loss, with the key that makes the second
 * sending attach to the first. From then on it is a resume after the last sequence number. Neither ever costs a second
 * call of a model.
 */

import { ResponseState, verify } from "./response-state.js";
import { delay } from "./backoff.js";
import { cancel, create, resume } from "./protocol.js";

/** @typedef {import("./protocol.js").Request} Request */
/** @typedef {import("./protocol.js").ServerEvent} ServerEvent */
/** @typedef {import("./response-state.js").Failure} Failure */

/**
 * What a handle needs of its client.
 * @typedef {{
 *   send: (message: object) => boolean,
 *   renew: () => void,
 *   limits: () => {[name: string]: any},
 *   settled: (handle: AnswerHandle) => void,
 *   platform: import("./connection.js").Platform,
 * }} Transport `renew` replaces the socket; `limits` are those of the server's welcome
 */

/** Milliseconds that a sent request may go unanswered before it is sent again, and how often that is done. */
export const ACCEPT_DEADLINE_MS = 30_000;
const ACCEPT_TRIES = 3;

/**
 * How long after the first sending a request may be sent again. The server forgets a key with its response, after an
 * hour unless configured otherwise; a resend past that would be a second call of the model.
 */
export const RESEND_WINDOW_MS = 30 * 60_000;

/** A prompt that never left this device is given up after a day. */
export const UNSENT_WINDOW_MS = 24 * 3_600_000;

/**
 * How often in a row a refusal that is about the moment (429, 5xx) is met with another try. A prompt that is not
 * accepted may be given back to its author soon; an accepted answer is being written and is worth a long wait.
 */
const BUSY_TRIES = 6;
const BUSY_TRIES_ACCEPTED = 200;

/** A `change` event after each change of `answer`, `stopping` or `verified`. */
export class AnswerHandle extends EventTarget {
  /** Called whenever `change` is dispatched; it needs no object for each delta. @type {() => void} */
  onchange = () => {};
  /** The user wants it stopped; the terminal event will say whether that came in time. */
  stopping = false;
  /** Whether the text matches its checksum: null while that is unknown, and where it cannot be computed. */
  verified = /** @type {boolean | null} */ (null);
  /** The server is too busy for it just now, and it will be tried again. */
  busy = false;

  /** @type {Transport} */ #transport;
  /** @type {(answer: ResponseState) => void} */ #resolve = () => {};
  #settled = false;
  /** Whether `change` has listeners. */ #hasListeners = false;
  /** When the request was first sent; null as long as it never left. @type {number | null} */ #sentAt = null;
  #sendings = 0;
  #refusals = 0;
  /** The sequence number after which the present socket was asked to go on. @type {number | null} */ #askedAfter = null;
  /** Events are missing on this very socket. */ #hasGap = false;
  /** The answer whose checksum did not match, while it is fetched again. @type {ResponseState | null} */ #mismatched = null;
  /** @type {any} */ #timer = 0;

  /**
   * @param {Transport} transport
   * @param {{streamId: string, idempotencyKey: string, request: Request | null, answer: ResponseState}} of a request that is
   *   to be sent, or an answer whose response id is known
   */
  constructor(transport, { streamId, idempotencyKey, request, answer }) {
    super();
    this.#transport = transport;
    this.streamId = streamId;
    this.idempotencyKey = idempotencyKey;
    this.request = request;
    this.answer = answer;
    /** Resolves when the answer has ended and its checksum was compared, or when the client is closed; never rejects.
     * @type {Promise<ResponseState>} */
    this.done = new Promise((resolve) => (this.#resolve = resolve));
    if (request) this.#after(UNSENT_WINDOW_MS, () => this.fail("never_sent", "It could not be sent within a day."));
  }

  /** Whether the server still has to confirm that it knows of this. */
  get waiting() {
    return !this.#settled && this.answer.responseId === null;
  }

  /** Asks for the end. What has not left this device is withdrawn at once. */
  stop() {
    if (this.answer.ended || this.stopping) return;
    this.stopping = true;
    if (this.answer.responseId !== null) this.#transport.send(cancel(this.answer.responseId));
    else if (this.#sentAt === null) {
      this.answer.withdraw();
      this.settle();
    }
    this.#changed();
  }

  /** A socket is open: sends the request, or resumes. */
  opened() {
    if (this.#settled || this.answer.ended) return;
    if (this.answer.responseId !== null) {
      this.#resume();
      if (this.stopping) this.#transport.send(cancel(this.answer.responseId));
      return;
    }
    if (this.request) this.#create(this.request);
  }

  /** The socket is gone, and with it whatever was asked on it. */
  lost() {
    if (this.#settled) return;
    this.#askedAfter = null;
    this.#hasGap = false;
    this.#sendings = 0;
    if (this.#sentAt === null || this.answer.responseId !== null) return;
    const left = this.#sentAt + RESEND_WINDOW_MS - this.#transport.platform.now();
    this.#after(Math.max(left, 0), () => this.#outcomeUnknown());
  }

  /** Takes an event of this lane or of this response.
   * @param {ServerEvent} event
   */
  receive(event) {
    if (this.#settled || (this.answer.ended && event.type !== "error")) return;
    if (event.type === "error") return this.#refused(event);
    const wasWaiting = this.waiting;
    const outcome = this.answer.apply(event);
    if (wasWaiting && this.answer.responseId !== null) this.#accepted(this.answer.responseId);
    if (outcome === "gap") return this.#missed();
    if (outcome !== "applied") return;
    this.#hasGap = false;
    this.busy = false;
    this.#refusals = 0;
    if (this.answer.ended) void this.#verify();
    this.#changed();
  }

  /** Compares with what a pong says is the last event of this response; undefined if the server does not follow it.
   * @param {number | undefined} last
   */
  heard(last) {
    if (this.#settled || this.answer.ended || this.answer.responseId === null || this.busy) return;
    if (last !== undefined && last <= this.answer.lastSequenceNumber) return;
    // Asked for since the last ping and still not here: this socket does not bring it.
    if (this.#askedAfter === this.answer.lastSequenceNumber) this.#transport.renew();
    else this.#resume();
  }

  #missed() {
    this.#hasGap = true;
    if (this.#askedAfter !== this.answer.lastSequenceNumber) this.#resume();
  }

  /** Ends it for a reason that its log does not know.
   * @param {string} code @param {string} message @param {Partial<Failure>} [more]
   */
  fail(code, message, more = {}) {
    if (this.#settled) return;
    if (this.#mismatched !== null) {
      this.answer = this.#mismatched; // the text with the wrong checksum, marked as such, is better than none
      this.verified = false;
    } else this.answer.fail({ ...more, code, message });
    this.settle();
    this.#changed();
  }

  /** Nothing more will come: lets go of the timer and of whoever waits. */
  settle() {
    if (this.#settled) return;
    this.#settled = true;
    this.#transport.platform.clearTimer(this.#timer);
    this.#resolve(this.answer);
    this.#transport.settled(this);
  }

  /** @param {Request} request */
  #create(request) {
    const now = this.#transport.platform.now();
    if (this.#sentAt !== null && now - this.#sentAt >= RESEND_WINDOW_MS) return this.#outcomeUnknown();
    if (this.#sendings === ACCEPT_TRIES) return this.fail("not_accepted", "The server does not accept it.");
    const message = create(request, this.streamId, this.idempotencyKey);
    // A server closes the socket on a message that is too long, and every other answer would lose it too.
    const most = this.#transport.limits().message_bytes;
    if (typeof most === "number" && new TextEncoder().encode(JSON.stringify(message)).length > most) {
      return this.fail("too_large", `It is longer than ${most} bytes.`, { status: 413 });
    }
    if (!this.#transport.send(message)) return;
    this.#sentAt ??= now;
    this.#sendings += 1;
    this.#after(ACCEPT_DEADLINE_MS, () => this.#create(request));
  }

  #resume() {
    const { responseId, lastSequenceNumber } = this.answer;
    if (responseId === null) return;
    if (this.#transport.send(resume(this.answer, this.streamId))) this.#askedAfter = lastSequenceNumber;
  }

  /** @param {string} responseId */
  #accepted(responseId) {
    this.#transport.platform.clearTimer(this.#timer);
    this.#refusals = 0;
    if (this.stopping) this.#transport.send(cancel(responseId));
    this.#changed();
  }

  #outcomeUnknown() {
    this.fail("outcome_unknown", "It was sent, but its outcome is unknown.");
  }

  /** @param {ServerEvent} event */
  #refused(event) {
    const { code = "unknown", message = "The server refused it.", type, param } = event.error ?? {};
    const status = event.status ?? 0;
    const accepted = this.answer.responseId !== null;
    if (accepted && status === 409) {
      // Nothing to do: it is followed already, or it has ended before it could be stopped. But if this socket has
      // left out events, the server will not say them twice on it.
      if (this.#hasGap) this.#transport.renew();
      return;
    }
    const rolledBack = code === "response_rolled_back"; // the storage has lost what this handle has
    const momentary = rolledBack || status === 429 || status >= 500;
    const tries = accepted ? BUSY_TRIES_ACCEPTED : BUSY_TRIES;
    if (!momentary || this.#refusals >= tries) return this.fail(code, message, { type, param, status });
    if (rolledBack) this.answer = this.answer.startOver();
    this.#refusals += 1;
    this.busy = true;
    this.#sendings = 0;
    const stated = 1_000 * Number(event.error?.headers?.["Retry-After"] ?? 0) || 0;
    this.#after(delay(this.#refusals, this.#transport.platform.random(), stated), () => this.opened());
    this.#changed();
  }

  /** Compares the checksum; a text that does not match is fetched again, once. */
  async #verify() {
    const answer = this.answer;
    const verified = answer.status === "failed" ? null : await verify(answer.text, answer.trailer);
    if (this.#settled) return;
    this.verified = verified;
    if (verified === false && this.#mismatched === null && answer.responseId !== null) {
      this.#mismatched = answer;
      this.answer = new ResponseState(answer.responseId);
      this.#resume();
    } else this.settle();
    this.#changed();
  }

  /** @param {number} ms @param {() => void} run */
  #after(ms, run) {
    this.#transport.platform.clearTimer(this.#timer);
    this.#timer = this.#transport.platform.setTimer(run, ms);
  }

  /** @override @param {Parameters<EventTarget["addEventListener"]>} listener */
  addEventListener(...listener) {
    this.#hasListeners = true;
    super.addEventListener(...listener);
  }

  #changed() {
    this.onchange();
    if (this.#hasListeners) this.dispatchEvent(new Event("change"));
  }
}
