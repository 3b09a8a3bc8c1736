// @ts-check
/**
 * A Holdline client for pages, web workers and Node. It sends prompts, follows answers, and resumes them after a lost socket.
 *
 *     const client = new HoldlineClient("/v1/responses");
 *     attachPage(client, window);
 *     const handle = client.ask({ input: "Why is the sky blue?" });
 *     handle.addEventListener("change", () => show(handle.answer.text));
 *     await handle.done;
 *
 * `connection.js` keeps the socket, and `answer-handle.js` follows one answer. This module routes each event to its answer.
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

/** The maximum number of requests that wait for the server to accept them. A further request fails at once. */
export const OUTBOX_LIMIT = 50;

/**
 * Sends prompts and follows answers over one connection.
 *
 * Events: `state` after each change of `state`; `degraded` when the server becomes degraded or recovers; `expiring` when
 * the token expires soon and `authenticate` should be called with a fresh one; `feed` for an event of a conversation or of
 * the list, which `conversations.js` handles; `error` for an error that belongs to no answer. The last four are
 * `CustomEvent`s with the frame as `detail`.
 */
export class HoldlineClient extends EventTarget {
  /** @type {Connection} */ #connection;
  /** Unfinished answers by stream id, in the order of their prompts. @type {Map<string, AnswerHandle>} */
  #lanes = new Map();
  /** @type {string | null} */ #token = null;
  /** @type {Platform} */ #platform;

  /**
   * Connects immediately.
   * @param {string} url the address of the socket, or its path on the page's host
   * @param {Partial<Platform>} [platform] clock, timers, random numbers and `WebSocket`; the platform's own by default
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
      open: () => this.#each((handle) => handle.opened()),
      lost: () => this.#each((handle) => handle.lost()),
      event: (event) => this.#receive(event),
    });
    this.#connection.start();
  }

  /** The state: `connecting` until the first welcome, then `open` or `reconnecting`; `closed` is final. */
  get state() {
    return this.#connection.state;
  }

  /** The close code and reason once the client is closed, otherwise null. The code is null if no socket could be opened. */
  get closed() {
    return this.#connection.close;
  }

  /** The limits in the welcome of the current server. @returns {{[name: string]: any}} */
  get limits() {
    return this.#connection.welcome?.limits ?? {};
  }

  /**
   * Sends a request, or queues it until there is a connection.
   *
   * To survive a reload before the server has accepted the request, store the request and the handle's `idempotencyKey`.
   * Then send the same request with that `idempotency_key`; it attaches to the same response.
   * @param {Request} request
   * @returns {AnswerHandle}
   */
  ask(request) {
    const { idempotency_key: key = randomId(), ...body } = request;
    const full = [...this.#lanes.values()].filter(({ waiting }) => waiting).length >= OUTBOX_LIMIT;
    const handle = this.#add(new ResponseState(), body, key);
    if (this.state === "closed") this.#refuse(handle);
    else if (full) handle.fail("outbox_full", `${OUTBOX_LIMIT} requests are waiting.`);
    else if (this.state === "open") handle.opened();
    return handle;
  }

  /**
   * Follows an existing response: replays its events after a sequence number, then streams new ones. Returns the handle of
   * the response if the client follows it already.
   * @param {string} responseId
   * @param {number} [startingAfter] the last sequence number to skip; -1 replays the whole response
   * @returns {AnswerHandle}
   */
  follow(responseId, startingAfter = -1) {
    const known = this.#handleOf({ type: "", response_id: responseId });
    if (known) return known;
    const handle = this.#add(new ResponseState(responseId, startingAfter), null, "");
    if (this.state === "closed") this.#refuse(handle);
    else if (this.state === "open") handle.opened();
    return handle;
  }

  /** Sends a token on this socket and on each later one.
   * @param {string} token
   */
  authenticate(token) {
    this.#token = token;
    this.send(auth(token));
  }

  /** Sends a message, for example about a conversation. Returns false if the client is not connected. @param {object} message */
  send(message) {
    return this.#connection.send(message);
  }

  /** Tests the connection within seconds and replaces it if it is dead. @param {number} [deadline] milliseconds */
  probe(deadline) {
    this.#connection.probe(deadline);
  }

  /** Tells the client whether the page is hidden. A hidden page does not reconnect. @param {boolean} hidden */
  setHidden(hidden) {
    this.#connection.setHidden(hidden);
  }

  /** Closes the socket until `wake` is called, because the page is about to be frozen. */
  suspend() {
    this.#connection.suspend();
  }

  wake() {
    this.#connection.wake();
  }

  /** Closes the client permanently. The server continues unfinished answers; their handles settle in their current state. */
  close() {
    this.#connection.end();
    this.#each((handle) => handle.settle());
  }

  /** Creates the handle of an answer and assigns a stream id to it.
   * @param {ResponseState} answer @param {Request | null} request @param {string} idempotencyKey
   */
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

  #stateChanged() {
    // The token precedes the messages of the listeners.
    if (this.#token !== null) this.send(auth(this.#token));
    // A final close code applies to the whole client rather than to a single answer, so every answer fails with that
    // code.
    const close = this.#connection.close;
    if (close !== null && close.code !== 1000) this.#each((handle) => this.#refuse(handle));
    this.dispatchEvent(new Event("state"));
  }

  /** Fails an answer because the connection was closed for good. @param {AnswerHandle} handle */
  #refuse(handle) {
    const close = this.#connection.close;
    const why = [close?.code, close?.reason].filter(Boolean).join(": ");
    handle.fail("connection_closed", `The connection is closed (${why}).`, { status: Number(close?.code) - 4_000 });
  }

  /** Passes an event from the server to the handle of its answer, or dispatches it. @param {ServerEvent} event */
  #receive(event) {
    if (event.type === "holdline:pong") {
      // The sequence numbers in a pong let the handles detect a lost event even if no other event follows it.
      return this.#each((handle) => handle.heard(event.responses?.[handle.answer.responseId ?? ""]));
    }
    if (event.type === "holdline:degraded") return this.#dispatch("degraded", event);
    if (event.type === "holdline:expiring") return this.#dispatch("expiring", event);
    if (event.conversation !== undefined || event.conversations) return this.#dispatch("feed", event);
    const handle = this.#handleOf(event);
    if (handle) handle.receive(event);
    else if (event.type === "error") this.#dispatch("error", event);
  }

  /** Returns the handle of the answer that an event is about, or undefined. @param {ServerEvent} event */
  #handleOf(event) {
    if (event.stream_id !== undefined) return this.#lanes.get(event.stream_id);
    const responseId = event.response_id ?? event.response?.id;
    return [...this.#lanes.values()].find(({ answer }) => answer.responseId === responseId);
  }

  /** Dispatches an event of the client. @param {string} name @param {ServerEvent} detail */
  #dispatch(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  /** Calls a function with each handle, over a copy, because a settled handle is removed from the map.
   * @param {(handle: AnswerHandle) => void} run
   */
  #each(run) {
    for (const handle of [...this.#lanes.values()]) run(handle);
  }
}
