// @ts-check
/**
 * A client of Holdline for a page, a worker or Node: asks, follows, and loses nothing with a lost socket.
 *
 *     const client = new HoldlineClient("/v1/responses");
 *     attachPage(client, window);
 *     const handle = client.ask({ input: "Why is the sky blue?" });
 *     handle.addEventListener("change", () => show(handle.answer.text));
 *     await handle.done;
 *
 * The socket is the business of `connection.js`, one answer that of `answer-handle.js`; here each event finds its answer.
 */

import { ResponseState } from "./response-state.js";
import { AnswerHandle } from "./answer-handle.js";
import { Connection } from "./connection.js";
import { auth, randomId, socketUrl } from "./protocol.js";

export { AnswerHandle } from "./answer-handle.js";
export { attachPage } from "./page-life.js";

/** @typedef {import("./protocol.js").Request} Request */
/** @typedef {import("./protocol.js").ServerEvent} ServerEvent */
/** @typedef {import("./connection.js").Platform} Platform */

/** How many requests may wait for the server to accept them. One more fails at once, and says so. */
export const OUTBOX_LIMIT = 50;

/**
 * Events: `state` after each change of `state`; `degraded` when the server says that it cannot do all it should, or can
 * again; `expiring` when the token is about to end, and `authenticate` is to be called with a fresh one; `error` for a
 * refusal that belongs to no answer. The last three are `CustomEvent`s with the frame as `detail`.
 */
export class HoldlineClient extends EventTarget {
  /** @type {Connection} */ #connection;
  /** Unsettled answers by lane, in the order in which they were asked. @type {Map<string, AnswerHandle>} */
  #lanes = new Map();
  /** @type {string | null} */ #token = null;
  /** @type {Platform} */ #platform;

  /**
   * Connects at once.
   * @param {string} url the socket's address, or the path of it on the page's own host
   * @param {Partial<Platform>} [platform] clock, timers, random numbers and `WebSocket`; the default is the platform's own
   */
  constructor(url, platform = {}) {
    super();
    this.#platform = {
      WebSocket: platform.WebSocket ?? globalThis.WebSocket,
      now: platform.now ?? Date.now,
      random: platform.random ?? Math.random,
      setTimer: platform.setTimer ?? ((run, ms) => setTimeout(run, ms)),
      clearTimer: platform.clearTimer ?? ((timer) => clearTimeout(timer)),
    };
    this.#connection = new Connection(socketUrl(url, globalThis.location?.href), this.#platform, {
      state: () => this.#stateChanged(),
      open: () => this.#opened(),
      lost: () => this.#each((handle) => handle.lost()),
      event: (event) => this.#receive(event),
    });
    this.#connection.start();
  }

  /** `connecting` until the first welcome, `open`, `reconnecting`, or `closed` for good. */
  get state() {
    return this.#connection.state;
  }

  /** Why it is closed for good: the code and the reason of the close, without a code if no socket could be opened; null before. */
  get closed() {
    return this.#connection.close;
  }

  /** The limits that the present server stated in its welcome. @returns {{[name: string]: any}} */
  get limits() {
    return this.#connection.welcome?.limits ?? {};
  }

  /**
   * Asks. Without a connection the request waits and is sent once there is one.
   *
   * A caller that wants to survive a reload before the server has accepted keeps the request and the handle's
   * `idempotencyKey`, and asks the same again with `idempotency_key`: it attaches to the same response.
   * @param {Request} request
   * @returns {AnswerHandle}
   */
  ask(request) {
    const { idempotency_key: key = randomId(), ...body } = request;
    const full = this.#waiting() >= OUTBOX_LIMIT;
    const handle = this.#add(new ResponseState(), body, key);
    if (this.state === "closed") this.#refuse(handle);
    else if (full) handle.fail("outbox_full", `${OUTBOX_LIMIT} requests are waiting.`);
    else if (this.state === "open") handle.opened();
    return handle;
  }

  /**
   * Follows a response that exists: everything after a sequence number, then live.
   * @param {string} responseId
   * @param {number} [startingAfter] -1 for all of it
   * @returns {AnswerHandle}
   */
  follow(responseId, startingAfter = -1) {
    const handle = this.#add(new ResponseState(responseId, startingAfter), null, "");
    if (this.state === "closed") this.#refuse(handle);
    else if (this.state === "open") handle.opened();
    return handle;
  }

  /** Gives a token to this socket and to each that follows it.
   * @param {string} token
   */
  authenticate(token) {
    this.#token = token;
    this.#connection.send(auth(token));
  }

  /** Tests the connection within seconds and replaces it if it is dead. */
  probe() {
    this.#connection.probe();
  }

  /** @param {boolean} hidden a hidden page does not fight for a new socket */
  setHidden(hidden) {
    this.#connection.setHidden(hidden);
  }

  /** The page goes to sleep: the socket is let go until `wake`. */
  suspend() {
    this.#connection.suspend();
  }

  wake() {
    this.#connection.wake();
  }

  /** Ends it for good. Answers under way go on at the server; their handles settle as they stand. */
  close() {
    this.#connection.end();
    this.#each((handle) => handle.settle());
  }

  /** @param {ResponseState} answer @param {Request | null} request @param {string} idempotencyKey */
  #add(answer, request, idempotencyKey) {
    const transport = {
      platform: this.#platform,
      send: (/** @type {object} */ message) => this.#connection.send(message),
      renew: () => this.#connection.renew(),
      limits: () => this.limits,
      settled: (/** @type {AnswerHandle} */ handle) => void this.#lanes.delete(handle.streamId),
    };
    const handle = new AnswerHandle(transport, { streamId: randomId(), idempotencyKey, request, answer });
    this.#lanes.set(handle.streamId, handle);
    return handle;
  }

  #waiting() {
    let waiting = 0;
    for (const handle of this.#lanes.values()) if (handle.waiting) waiting += 1;
    return waiting;
  }

  #opened() {
    if (this.#token !== null) this.#connection.send(auth(this.#token));
    this.#each((handle) => handle.opened());
  }

  #stateChanged() {
    // A final code is about this client and not about one answer, so each learns it.
    const close = this.#connection.close;
    if (close !== null && close.code !== 1000) this.#each((handle) => this.#refuse(handle));
    this.dispatchEvent(new Event("state"));
  }

  /** @param {AnswerHandle} handle */
  #refuse(handle) {
    const close = this.#connection.close;
    const why = [close?.code, close?.reason].filter(Boolean).join(": ");
    handle.fail("connection_closed", `The connection is closed (${why}).`, { status: Number(close?.code) - 4_000 });
  }

  /** @param {ServerEvent} event */
  #receive(event) {
    if (event.type === "holdline:pong") return this.#pong(event.responses ?? {});
    if (event.type === "holdline:degraded") return this.#dispatch("degraded", event);
    if (event.type === "holdline:expiring") return this.#dispatch("expiring", event);
    const handle = this.#handleOf(event);
    if (handle) handle.receive(event);
    else if (event.type === "error") this.#dispatch("error", event);
  }

  /** What a pong says was sent last tells of an event that was lost without another one after it.
   * @param {{[responseId: string]: number}} responses
   */
  #pong(responses) {
    this.#each((handle) => handle.heard(responses[handle.answer.responseId ?? ""]));
  }

  /** @param {ServerEvent} event */
  #handleOf(event) {
    if (event.stream_id !== undefined) return this.#lanes.get(event.stream_id);
    const responseId = event.response_id ?? event.response?.id;
    if (responseId === undefined) return undefined;
    return [...this.#lanes.values()].find((handle) => handle.answer.responseId === responseId);
  }

  /** @param {string} name @param {ServerEvent} detail */
  #dispatch(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  /** Over a copy: a handle that settles leaves the map. @param {(handle: AnswerHandle) => void} run */
  #each(run) {
    for (const handle of [...this.#lanes.values()]) run(handle);
  }
}
