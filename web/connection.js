// @ts-check
/**
 * Keeps one socket open: it connects, sends pings, and replaces a dead socket. It does not handle answers.
 *
 * A socket is open from its welcome until it is lost. Each wait has a deadline: the welcome, a pong, the next attempt.
 * The state of the page (hidden, frozen, resumed) is an input; this module does not access the document.
 */

import { delay, triesAfterLoss } from "./backoff.js";
import { closeAdvice, parseFrame, ping, SUBPROTOCOL } from "./protocol.js";

/** @typedef {import("./protocol.js").ServerEvent} ServerEvent */

/** @typedef {"connecting" | "open" | "reconnecting" | "closed"} State `connecting` until the first welcome */

/** @typedef {{code: number | null, reason: string}} Close `code` is null if the browser refused to open a socket */

/**
 * The clock, timers and random numbers, which tests replace.
 * @typedef {{
 *   WebSocket: new (url: string, protocols?: string | string[]) => WebSocket,
 *   now: () => number, random: () => number,
 *   setTimer: (run: () => void, ms: number) => any, clearTimer: (timer: any) => void,
 * }} Platform
 */

/**
 * The callbacks of a connection.
 * @typedef {{
 *   state: (state: State) => void,
 *   open: (welcome: ServerEvent) => void,
 *   lost: () => void,
 *   event: (event: ServerEvent) => void,
 * }} Listeners `open` is called after each welcome, and `lost` after the loss of an open socket
 */

/** How long to wait for the welcome before closing a socket, in milliseconds. */
export const WELCOME_DEADLINE_MS = 10_000;
export const PING_INTERVAL_MS = 25_000;
/** How long to wait for the pong to a periodic ping, and to a ping that probes a possibly dead connection. */
export const PONG_DEADLINE_MS = 10_000;
export const PROBE_DEADLINE_MS = 3_000;

/**
 * The pong may be queued behind a long answer, so each received frame extends its deadline, up to this multiple of the
 * original deadline.
 */
const MAX_DEADLINE_FACTOR = 3;

/** If a ping timer fires at least this many milliseconds late, the machine was asleep, so the client probes the socket. */
const OVERSLEPT_MS = 5_000;

/** @typedef {"socket" | "ping" | "pong"} Timer */
const TIMERS = /** @type {const} */ (["socket", "ping", "pong"]);

export class Connection {
  /** @type {State} */
  state = "connecting";
  /** The final close, or null before it. @type {Close | null} */
  close = null;
  /** The first frame of the current socket. @type {ServerEvent | null} */
  welcome = null;

  /** @type {WebSocket | null} */
  #socket = null;
  #tries = 0;
  /** The times at which the current socket was created and welcomed. */
  #begunAt = 0;
  #openAt = 0;
  #notBefore = 0;
  #hidden = false;
  #suspended = false;
  #pings = 0;
  /** The id of the ping that has no pong yet. @type {string | null} */
  #awaited = null;
  /** The deadline of the pong in milliseconds, and the time after which other frames no longer extend it. */
  #deadline = 0;
  #lastDeadline = 0;
  /** Timers for the next attempt or the welcome's deadline, the next ping, and the pong's deadline.
   * @type {Record<Timer, any>}
   */
  #timers = { socket: 0, ping: 0, pong: 0 };

  /**
   * Creates the connection. `start` opens its first socket.
   * @param {string} url
   * @param {Platform} platform
   * @param {Listeners} listeners
   */
  constructor(url, platform, listeners) {
    this.url = url;
    this.platform = platform;
    this.listeners = listeners;
  }

  start() {
    this.#connect();
  }

  /** Sends a message, or returns false if the socket is not open. The caller has to resend it after the next `open`.
   * @param {object} message
   */
  send(message) {
    if (this.state !== "open" || this.#socket?.readyState !== 1) return false;
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  /** Closes the connection permanently.
* @param {Close} [close]
   */
  end(close = { code: 1000, reason: "closed by the client" }) {
    if (this.state === "closed") return;
    this.close = close;
    this.#drop();
    this.#become("closed");
  }

  /** Sends a ping, by default with a short deadline, or connects at once if there is no socket.
   * @param {number} [deadline] milliseconds
   */
  probe(deadline = PROBE_DEADLINE_MS) {
    if (this.state === "closed" || this.#suspended) return;
    if (this.state === "open") return this.#ping(deadline);
    const age = this.platform.now() - this.#begunAt;
    if (this.#socket && age < PROBE_DEADLINE_MS) return; // the socket is still being opened
    if (this.#notBefore > this.platform.now()) return; // the server requested this delay
    this.#forgetSocket();
    this.#connect();
  }

  /** Sets whether the page is hidden. A hidden page keeps its socket, but does not reconnect.
   * @param {boolean} hidden
   */
  setHidden(hidden) {
    const shown = this.#hidden && !hidden;
    this.#hidden = hidden;
    if (hidden && this.#socket === null) this.#clear("socket");
    if (!shown) return;
    if (this.#socket) this.probe();
    else this.#retry(this.#notBefore - this.platform.now());
  }

  /** Closes the socket before the page is frozen; a frozen page could not answer on it. */
  suspend() {
    if (this.state === "closed" || this.#suspended) return;
    this.#suspended = true;
    const wasOpen = this.state === "open";
    this.#drop();
    if (wasOpen) this.#become("reconnecting");
  }

  /** Reconnects, or probes the socket, after the page has resumed. */
  wake() {
    if (!this.#suspended) return this.probe();
    this.#suspended = false;
    this.#retry(this.#notBefore - this.platform.now());
  }

  /** Replaces the current socket immediately, at the caller's request. */
  renew() {
    if (this.state === "open") this.#lose(0);
  }

  #connect() {
    this.#clear("socket");
    this.#begunAt = this.platform.now();
    let socket;
    try {
      socket = new this.platform.WebSocket(this.url, SUBPROTOCOL);
    } catch (error) {
      // The address itself was refused, for example ws: on an https: page, so a retry would fail as well.
      this.end({ code: null, reason: String(error) });
      return;
    }
    this.#socket = socket;
    socket.onmessage = (message) => this.#receive(message.data);
    socket.onclose = (close) => this.#closed(close.code, close.reason);
    // In a browser, a close event follows each error. Node 20 omits it when the upgrade is refused.
    socket.onerror = () => {
      if (this.state !== "open") this.#lose(0);
    };
    this.#set("socket", () => this.#lose(0), WELCOME_DEADLINE_MS);
  }

  /** Handles a frame from the server, and passes its event to the listener. @param {unknown} data */
  #receive(data) {
    const event = parseFrame(data);
    if (event === null) return;
    if (this.state !== "open") {
      if (event.type !== "holdline:welcome") return; // the welcome is always the first frame
      this.#welcomed(event);
    } else if (event.type === "holdline:pong" && event.id === this.#awaited) {
      this.#awaited = null;
      this.#clear("pong");
      this.#pingLater();
    } else if (this.#awaited !== null) {
      this.#awaitPong();
    }
    this.listeners.event(event);
  }

  /** Handles the server's welcome, after which the connection is open. @param {ServerEvent} welcome */
  #welcomed(welcome) {
    this.#clear("socket");
    this.welcome = welcome;
    this.#openAt = this.platform.now();
    this.#notBefore = 0;
    this.#pingLater();
    this.#become("open");
    this.listeners.open(welcome);
  }

  #pingLater() {
    const stated = this.welcome?.ping_interval_ms;
    const interval = typeof stated === "number" && stated >= 1_000 ? stated : PING_INTERVAL_MS;
    const due = this.platform.now() + interval;
    this.#set("ping", () => {
      const late = this.platform.now() - due;
      this.#ping(late > OVERSLEPT_MS ? PROBE_DEADLINE_MS : PONG_DEADLINE_MS);
    }, interval);
  }

  /** Sends a ping. While a ping is pending, only a probe replaces it, because a probe has a shorter deadline.
   * @param {number} deadline milliseconds
   */
  #ping(deadline) {
    this.#clear("ping");
    if (this.#awaited === null || deadline === PROBE_DEADLINE_MS) {
      this.#awaited = String(++this.#pings);
      if (!this.send(ping(this.#awaited))) return this.#lose(0);
      this.#deadline = deadline;
      this.#lastDeadline = this.platform.now() + MAX_DEADLINE_FACTOR * deadline;
      this.#awaitPong();
    }
  }

  #awaitPong() {
    const left = this.#lastDeadline - this.platform.now();
    this.#set("pong", () => this.#lose(0), Math.min(this.#deadline, Math.max(left, 0)));
  }

  /** Handles a close by the server or the network: reconnects, or ends the connection if its close code is final.
   * @param {number} code @param {string} reason
   */
  #closed(code, reason) {
    const advice = closeAdvice(code, reason);
    if (code === 4408) this.#openAt = Infinity; // the server accepted no credential, so the socket was never stable
    if (advice.comeBack) this.#lose(advice.afterMs);
    else this.end({ code, reason });
  }

  /** Drops the current socket and schedules a retry.
   * @param {number} afterMs the delay that the server requested
   */
  #lose(afterMs) {
    const now = this.platform.now();
    this.#tries = triesAfterLoss(this.#tries, this.state === "open" ? now - this.#openAt : 0);
    const wait = delay(this.#tries, this.platform.random(), Math.max(afterMs, this.#notBefore - now));
    if (afterMs > 0) this.#notBefore = now + wait;
    this.#drop();
    if (this.state === "open") this.#become("reconnecting");
    this.#retry(wait);
  }

  /** Schedules an attempt. A hidden or frozen page reconnects only when it is shown or resumed.
   * @param {number} wait milliseconds
   */
  #retry(wait) {
    if (this.#hidden || this.#suspended || this.state === "closed") return;
    this.#set("socket", () => {
      this.#tries += 1;
      this.#connect();
    }, Math.max(0, wait));
  }

  #drop() {
    const wasOpen = this.state === "open";
    this.#forgetSocket();
    for (const name of TIMERS) this.#clear(name);
    this.#awaited = null;
    this.welcome = null;
    if (wasOpen) this.listeners.lost();
  }

  /** Detaches the current socket and closes it. On a dead network, its close event may take minutes. */
  #forgetSocket() {
    const socket = this.#socket;
    if (socket === null) return;
    this.#socket = null;
    socket.onmessage = null;
    socket.onclose = null;
    socket.onerror = null;
    socket.close();
  }

  /** Changes the state and tells the listener. @param {State} state */
  #become(state) {
    if (this.state === state) return;
    this.state = state;
    this.listeners.state(state);
  }

  /** Starts a timer, and stops a running timer of this name.
   * @param {Timer} name @param {() => void} run @param {number} ms
   */
  #set(name, run, ms) {
    this.#clear(name);
    this.#timers[name] = this.platform.setTimer(run, ms);
  }

  /** Stops a timer. @param {Timer} name */
  #clear(name) {
    this.platform.clearTimer(this.#timers[name]);
    this.#timers[name] = 0;
  }
}
