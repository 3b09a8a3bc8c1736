// @ts-check
/**
 * Follows one prompt from its request to the verified answer, across any number of sockets.
 *
 * After a lost connection, the client sends the request again until the server has returned a response id. Both copies
 * carry the same idempotency key, so the second copy attaches to the response of the first. Once the response has an
 * id, the client resumes after the last sequence number instead. Neither way causes a second model call.
 */

import { ResponseState, verify } from "./response-state.js";
import { delay } from "./backoff.js";
import { cancel, create, resume } from "./protocol.js";

/** @typedef {import("./protocol.js").Request} Request */
/** @typedef {import("./protocol.js").ServerEvent} ServerEvent */
/** @typedef {import("./response-state.js").Failure} Failure */

/**
 * The functions of the client that a handle calls.
 * @typedef {{
 *   send: (message: object) => boolean,
 *   renew: () => void,
 *   limits: () => {[name: string]: any},
 *   settled: (handle: AnswerHandle) => void,
 *   platform: import("./connection.js").Platform,
 * }} Transport `renew` replaces the socket; `limits` returns the limits in the server's welcome
 */

/** How long to wait for a reply before sending a request again, in milliseconds, and the maximum number of sends. */
export const ACCEPT_DEADLINE_MS = 30_000;
const ACCEPT_TRIES = 3;

/**
 * The time after the first send during which a request may be sent again. The server deletes an idempotency key together
 * with its response, by default after an hour. A resend after that would call the model a second time.
 */
export const RESEND_WINDOW_MS = 30 * 60_000;

/** A prompt fails if it cannot be sent within a day. */
export const UNSENT_WINDOW_MS = 24 * 3_600_000;

/**
 * The maximum number of consecutive retries after a temporary error (429 or 5xx). A prompt that has not been accepted can
 * fail early, because the user can send it again. An accepted answer is already being generated, so it is retried longer.
 */
const BUSY_TRIES = 6;
const BUSY_TRIES_ACCEPTED = 200;

/** Represents one answer. Dispatches `change` after each change of `answer`, `stopping` or `verified`. */
export class AnswerHandle extends EventTarget {
  /** Called on each change. Unlike the event, it allocates no object per delta. @type {() => void} */
  onchange = () => {};
  /** True if the user has asked to stop the answer. The terminal event shows whether the request arrived in time. */
  stopping = false;
  /** True if the text matches its checksum; null if this is not known yet or cannot be computed. */
  verified = /** @type {boolean | null} */ (null);
  /** True if the server is too busy to accept the request; the client will retry. */
  busy = false;

  /** @type {Transport} */ #transport;
  /** @type {(answer: ResponseState) => void} */ #resolve = () => {};
  #settled = false;
  /** True if `change` has listeners. */ #hasListeners = false;
  /** The time of the first send; null if the request has not been sent. @type {number | null} */ #sentAt = null;
  #sendings = 0;
  #refusals = 0;
  /** The sequence number in the last resume message on the current socket; null if none was sent. @type {number | null} */ #askedAfter = null;
  /** True if events were skipped on this socket. */ #hasGap = false;
  /** The answer whose checksum did not match, kept while it is fetched again. @type {ResponseState | null} */ #mismatched = null;
  /** @type {any} */ #timer = 0;

  /**
   * Creates a handle that sends a request, or that follows an answer whose response id is known.
   * @param {Transport} transport
   * @param {{streamId: string, idempotencyKey: string, request: Request | null, answer: ResponseState}} start either a
   * request to send, or an answer whose response id is known
   */
  constructor(transport, { streamId, idempotencyKey, request, answer }) {
    super();
    this.#transport = transport;
    this.streamId = streamId;
    this.idempotencyKey = idempotencyKey;
    this.request = request;
    this.answer = answer;
    /** Resolves once the answer has ended and its checksum has been compared, or the client is closed; never rejects.
     * @type {Promise<ResponseState>} */
    this.done = new Promise((resolve) => (this.#resolve = resolve));
    if (request) this.#after(UNSENT_WINDOW_MS, () => this.fail("never_sent", "The prompt was not sent within a day."));
  }

  /** True if the server has not confirmed the request yet. */
  get waiting() {
    return !this.#settled && this.answer.responseId === null;
  }

  /** Cancels the answer. A request that has not been sent is withdrawn at once. */
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

  /** Sends the request or resumes the response on a newly opened socket. */
  opened() {
    if (this.#settled || this.answer.ended) return;
    if (this.answer.responseId !== null) {
      this.#resume();
      if (this.stopping) this.#transport.send(cancel(this.answer.responseId));
      return;
    }
    if (this.request) this.#create(this.request);
  }

  /** Resets the state that belonged to the lost socket. */
  lost() {
    if (this.#settled) return;
    this.#askedAfter = null;
    this.#hasGap = false;
    this.#sendings = 0;
    if (this.#sentAt === null || this.answer.responseId !== null) return;
    const left = this.#sentAt + RESEND_WINDOW_MS - this.#transport.platform.now();
    this.#after(Math.max(left, 0), () => this.#outcomeUnknown());
  }

  /** Handles an event with the stream id or the response id of this answer.
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

  /** Compares the last sequence number in a pong with the last one received.
   * @param {number | undefined} last the last number sent; undefined if the server does not follow the response
   */
  heard(last) {
    if (this.#settled || this.answer.ended || this.answer.responseId === null || this.busy) return;
    if (last !== undefined && last <= this.answer.lastSequenceNumber) return;
    // The resume was sent before the last ping and has had no effect, so the socket is replaced.
    if (this.#askedAfter === this.answer.lastSequenceNumber) this.#transport.renew();
    else this.#resume();
  }

  #missed() {
    this.#hasGap = true;
    if (this.#askedAfter !== this.answer.lastSequenceNumber) this.#resume();
  }

  /** Fails the answer for a reason that is not in the response's log.
   * @param {string} code @param {string} message @param {Partial<Failure>} [more]
   */
  fail(code, message, more = {}) {
    if (this.#settled) return;
    if (this.#mismatched !== null) {
      this.answer = this.#mismatched; // keep the mismatched text, marked as unverified, instead of showing none
      this.verified = false;
    } else this.answer.fail({ ...more, code, message });
    this.settle();
    this.#changed();
  }

  /** Clears the timer and resolves `done`. */
  settle() {
    if (this.#settled) return;
    this.#settled = true;
    this.#transport.platform.clearTimer(this.#timer);
    this.#resolve(this.answer);
    this.#transport.settled(this);
  }

  /** Sends the request, and sends it again until the server accepts it. Fails if another send is not allowed.
   * @param {Request} request
   */
  #create(request) {
    const now = this.#transport.platform.now();
    if (this.#sentAt !== null && now - this.#sentAt >= RESEND_WINDOW_MS) return this.#outcomeUnknown();
    if (this.#sendings === ACCEPT_TRIES) return this.fail("not_accepted", "The server does not respond.");
    const message = create(request, this.streamId, this.idempotencyKey);
    // The server closes the socket on a message that is too long, which would interrupt all other answers.
    const most = this.#transport.limits().message_bytes;
    if (typeof most === "number" && new TextEncoder().encode(JSON.stringify(message)).length > most) {
      return this.fail("too_large", `The prompt exceeds ${most} bytes.`, { status: 413 });
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

  /** Handles the acceptance of the request, and cancels the response if the user has already stopped the answer.
   * @param {string} responseId
   */
  #accepted(responseId) {
    this.#transport.platform.clearTimer(this.#timer);
    this.#refusals = 0;
    if (this.stopping) this.#transport.send(cancel(responseId));
    this.#changed();
  }

  #outcomeUnknown() {
    this.fail("outcome_unknown", "The prompt was sent, but its outcome is unknown.");
  }

  /** Handles an error from the server: retries after a temporary one, and fails after any other.
   * @param {ServerEvent} event
   */
  #refused(event) {
    const { code = "unknown", message = "The server refused the prompt.", ...more } = event.error ?? {};
    const status = event.status ?? 0;
    const accepted = this.answer.responseId !== null;
    if (accepted && status === 409) {
      // This socket already follows the response, or the response ended before it could be cancelled. Usually nothing
      // is left to do. But if events were skipped on this socket, the server does not send them on it again, so the
      // socket is replaced.
      if (this.#hasGap) this.#transport.renew();
      return;
    }
    const rolledBack = code === "response_rolled_back"; // the server's storage lost events that this handle has received
    const full = code === "websocket_stream_limit_reached";
    const momentary = rolledBack || full || status === 429 || status >= 500;
    const tries = accepted ? BUSY_TRIES_ACCEPTED : BUSY_TRIES;
    if (!momentary || this.#refusals >= tries) return this.fail(code, message, { ...more, status });
    if (rolledBack) this.answer = this.answer.startOver();
    this.#refusals += 1;
    this.busy = true;
    this.#sendings = 0;
    const stated = 1_000 * Number(event.error?.headers?.["Retry-After"] ?? 0) || 0;
    this.#after(delay(this.#refusals, this.#transport.platform.random(), stated), () => this.opened());
    this.#changed();
  }

  /** Verifies the checksum. If it does not match, fetches the text again once. */
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

  /** Runs a function after a delay. A function that was scheduled earlier no longer runs.
   * @param {number} ms @param {() => void} run
   */
  #after(ms, run) {
    this.#transport.platform.clearTimer(this.#timer);
    this.#timer = this.#transport.platform.setTimer(run, ms);
  }

  /** Adds a listener. Once there is one, each change dispatches an event.
   * @override @param {Parameters<EventTarget["addEventListener"]>} listener
   */
  addEventListener(...listener) {
    this.#hasListeners = true;
    super.addEventListener(...listener);
  }

  #changed() {
    this.onchange();
    if (this.#hasListeners) this.dispatchEvent(new Event("change"));
  }
}
