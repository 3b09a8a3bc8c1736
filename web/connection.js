// @ts-check
/**
 * One socket that is kept open: opened, checked by pings, replaced when it dies. It knows nothing of answers.
 *
 * A socket counts as open from its welcome to its loss. Every wait has a deadline: for the welcome, for a pong, for the
 * next try. What the page tells (hidden, asleep, back) is an input; nothing here looks at a document.
 */

import { delay, LONGEST_STATED_MS, triesAfterLoss } from "./backoff.js";
import { closeAdvice, parseFrame, ping } from "./protocol.js";

/** @typedef {import("./protocol.js").ServerEvent} ServerEvent */

/** @typedef {"connecting" | "open" | "reconnecting" | "closed"} State `connecting` until the first welcome */

/** @typedef {{code: number | null, reason: string}} Close the code is null if the browser refused to open a socket */

/**
 * Clock, timers and random numbers, so that tests can control them.
 * @typedef {{
 *   WebSocket: new (url: string, protocols?: string | string[]) => WebSocket,
 *   now: () => number, random: () => number,
 *   setTimer: (run: () => void, ms: number) => any, clearTimer: (timer: any) => void,
 * }} Platform
 */

/**
 * @typedef {{
 *   state: (state: State) => void,
 *   open: (welcome: ServerEvent) => void,
 *   lost: () => void,
 *   event: (event: ServerEvent) => void,
 * }} Listeners `open` after each welcome, `lost` after each end of a socket that had been welcomed
 */

/** Milliseconds. A socket without a welcome by then is closed. */
export const WELCOME_DEADLINE_MS = 10_000;
export const PING_INTERVAL_MS = 25_000;
/** For a pong to a ping in quiet times, and to one sent because the connection may be dead. */
export const PONG_DEADLINE_MS = 10_000;
export const PROBE_DEADLINE_MS = 3_000;

/** A long answer may precede the pong: while frames come, the deadline moves, up to this many times its length. */
const MAX_DEADLINE_FACTOR = 3;

/** A timer that fires this much late slept with the machine: the socket must be probed. */
const OVERSLEPT_MS = 5_000;

/** @typedef {"socket" | "ping" | "pong" | "drain"} Timer */
const TIMERS = /** @type {const} */ (["socket", "ping", "pong", "drain"]);

export class Connection {
  /** @type {State} */
  state = "connecting";
  /** Why it is closed for good. @type {Close | null} */
  close = null;
  /** The first frame of the present socket. @type {ServerEvent | null} */
  welcome = null;

  /** @type {WebSocket | null} */
  #socket = null;
  #tries = 0;
  /** When the present socket was begun, and when it was welcomed. */
  #begunAt = 0;
  #openAt = 0;
  #notBefore = 0;
  #hidden = false;
  #suspended = false;
  #pings = 0;
  /** The ping that waits for its pong. @type {string | null} */
  #awaited = null;
  /** Its deadline in milliseconds, and the moment past which no traffic excuses the missing pong. */
  #deadline = 0;
  #lastDeadline = 0;
  /** One each: the next try or the welcome's deadline; the next ping; the pong's deadline; the move elsewhere.
   * @type {Record<Timer, any>}
   */
  #timers = { socket: 0, ping: 0, pong: 0, drain: 0 };

  /**
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

  /** Sends now or says false; what could not be sent is the caller's to send again after the next `open`.
   * @param {object} message
   */
  send(message) {
    if (this.state !== "open" || this.#socket?.readyState !== 1) return false;
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  /** Ends it for good.
   * @param {Close} [close]
   */
  end(close = { code: 1000, reason: "closed by the client" }) {
    if (this.state === "closed") return;
    this.close = close;
    this.#drop();
    this.#become("closed");
  }

  /** Asks for a pong within a short time, or connects at once if there is no socket. */
  probe() {
    if (this.state === "closed" || this.#suspended) return;
    if (this.state === "open") return this.#ping(PROBE_DEADLINE_MS);
    const age = this.platform.now() - this.#begunAt;
    if (this.#socket && age < PROBE_DEADLINE_MS) return; // it is being opened this very moment
    if (this.#notBefore > this.platform.now()) return; // the server asked for this wait
    this.#forgetSocket();
    this.#connect();
  }

  /** A hidden page keeps its socket but does not fight for a new one.
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

  /** The page is put to sleep: the socket is let go, so that the sleep is not disturbed and nothing is half alive. */
  suspend() {
    if (this.state === "closed" || this.#suspended) return;
    this.#suspended = true;
    const wasOpen = this.state === "open";
    this.#drop();
    if (wasOpen) this.#become("reconnecting");
  }

  /** The page is awake again. */
  wake() {
    if (!this.#suspended) return this.probe();
    this.#suspended = false;
    this.#retry(this.#notBefore - this.platform.now());
  }

  /** Replaces the present socket at once, for a reason that the caller has. */
  renew() {
    if (this.state === "open") this.#lose(0);
  }

  #connect() {
    this.#clear("socket");
    this.#begunAt = this.platform.now();
    let socket;
    try {
      socket = new this.platform.WebSocket(this.url);
    } catch (error) {
      // The address itself is refused (for example ws: on a page under https:): no later try can do better.
      this.end({ code: null, reason: String(error) });
      return;
    }
    this.#socket = socket;
    socket.onmessage = (message) => this.#receive(message.data);
    socket.onclose = (close) => this.#closed(close.code, close.reason);
    // In a browser a close follows each error. Node 20 leaves it out when the upgrade is refused.
    socket.onerror = () => {
      if (this.state !== "open") this.#lose(0);
    };
    this.#set("socket", () => this.#lose(0), WELCOME_DEADLINE_MS);
  }

  /** @param {unknown} data */
  #receive(data) {
    const event = parseFrame(data);
    if (event === null) return;
    if (this.state !== "open") {
      if (event.type !== "holdline:welcome") return; // it is always the first
      this.#welcomed(event);
    } else if (event.type === "holdline:draining") {
      this.#draining(event.retry_after_ms);
    } else if (event.type === "holdline:pong" && event.id === this.#awaited) {
      this.#awaited = null;
      this.#clear("pong");
      this.#pingLater();
    } else if (this.#awaited !== null) {
      this.#awaitPong();
    }
    this.listeners.event(event);
  }

  /** @param {ServerEvent} welcome */
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

  /** A ping that is already under way is not asked again; only its deadline may come nearer.
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

  /** This server is about to go: stay until the stated moment, then come back, most likely elsewhere.
   * @param {unknown} retryAfterMs
   */
  #draining(retryAfterMs) {
    const stated = typeof retryAfterMs === "number" ? retryAfterMs : 0;
    const wait = Math.min(Math.max(stated, 0), LONGEST_STATED_MS);
    this.#notBefore = this.platform.now() + wait;
    this.#set("drain", () => this.#lose(0), wait);
  }

  /** @param {number} code @param {string} reason */
  #closed(code, reason) {
    const advice = closeAdvice(code, reason);
    if (advice.comeBack) this.#lose(advice.afterMs);
    else this.end({ code, reason });
  }

  /** The present socket is of no use any more.
   * @param {number} afterMs what the server asked for
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

  /** Tries after a while, unless the page is hidden or asleep: then the return of the page tries.
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

  /** A socket on a dead line may take minutes to close; nobody listens to it meanwhile. */
  #forgetSocket() {
    const socket = this.#socket;
    if (socket === null) return;
    this.#socket = null;
    socket.onmessage = null;
    socket.onclose = null;
    socket.onerror = null;
    socket.close();
  }

  /** @param {State} state */
  #become(state) {
    if (this.state === state) return;
    this.state = state;
    this.listeners.state(state);
  }

  /** @param {Timer} name @param {() => void} run @param {number} ms */
  #set(name, run, ms) {
    this.#clear(name);
    this.#timers[name] = this.platform.setTimer(run, ms);
  }

  /** @param {Timer} name */
  #clear(name) {
    this.platform.clearTimer(this.#timers[name]);
    this.#timers[name] = 0;
  }
}
