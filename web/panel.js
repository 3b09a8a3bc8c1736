// @ts-check
/** Draws a thread: the header, the turns, the banner and the composer. */

import { Composer } from "./composer.js";
import { button, icon, ICONS, make, name } from "./dom.js";

/** @typedef {import("./words.js").Words} Words */
/** @typedef {import("./thread.js").Thread} Thread */
/** @typedef {import("./turns.js").Turns} Turns */

/** The delay before the banner reports a lost connection, in milliseconds. Most losses are shorter. */
const BANNER_DELAY_MS = 1_500;
/** If a reader who scrolled up returns to within this distance of the end, the panel follows new text again. */
const FOLLOW_END_PX = 96;
/** The pause after a draw, as a multiple of the draw's duration. It limits the share of time spent on drawing. */
const REST = 12;
const LONGEST_REST_MS = 400;
const SHORTEST_REST_MS = 80;
/** A rate of characters per millisecond that nobody can read. Faster output is drawn in larger steps. */
const READ_PER_MS = 5;

export class Panel {
  element = make("section", "panel");
  #log = make("div", "log");
  #start = make("div", "start");
  #state = make("p", "state");
  #stateWord = make("span", "state-word");
  #banner = make("p", "banner");
  #announcement = make("p", "unseen");
  #latest;
  #fresh;
  /** The drawn turns, once their module has loaded. @type {Turns | null} */ #turns = null;
  #drawing = 0;
  #drawnAt = 0;
  #drawMs = 0;
  /** The length of the current answer, and its growth at the last draw, in characters. */
  #length = 0;
  #grown = 0;
  #followsEnd = true;
  /** The scroll position. */ #top = 0;
  /** The distance from the scroll position to the end in pixels. */ #left = 0;
  /**
   * Observes size changes: a block gets its real height when it comes into view, and the log resizes with the window.
   */
  #sizes = new ResizeObserver(() => this.#keepEnd());
  #bannerTimer = 0;
  /** Whether the server refuses this origin, which the connection cannot detect. */ #refused = false;

  /**
   * Creates the panel and draws the conversation.
   * @param {Thread} thread @param {Words} words
   * @param {() => typeof import("./turns.js") | null} drawer returns the module that draws turns, or null until it has loaded
   * @param {{title: string, greeting: string, suggestions: string[], placeholder: string, close: () => void}} how
   */
  constructor(thread, words, drawer, how) {
    this.thread = thread;
    this.words = words;
    this.drawer = drawer;
    this.composer = new Composer(words, {
      send: (prompt) => this.#ask(prompt),
      stop: () => thread.stop(),
    });
    this.composer.field.placeholder = how.placeholder;
    this.#fresh = button("fresh", words.fresh, () => this.clear(), icon(ICONS.fresh));
    this.#fresh.id = "new";
    this.#latest = button("latest", words.latest, () => this.#toEnd(), words.latest);
    this.#state.id = "state";
    this.#banner.id = "banner";
    this.#state.append(make("span", "dot"), this.#stateWord);
    this.#announcement.setAttribute("role", "status");
    this.#banner.setAttribute("role", "status");
    // Assistive technology presents this element as a log. Only the announcement element announces answers: each answer
    // once, when it has ended.
    this.#log.setAttribute("role", "log");
    this.#log.setAttribute("aria-live", "off");
    name(this.#log, words.conversation);
    this.#log.tabIndex = 0;
    this.#banner.hidden = this.#latest.hidden = true;
    this.#welcome(how);
    const close = button("close", words.closeChat, how.close, icon(ICONS.close));
    const title = make("h2", "title", how.title);
    title.id = "title";
    this.element.setAttribute("aria-labelledby", "title");
    this.#log.append(this.#start);
    this.element.append(
      make("header", "head", title, this.#state, this.#fresh, close),
      this.#banner, this.#log,
      make("footer", "foot", this.#latest, this.composer.element), this.#announcement,
    );
    this.#log.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    thread.changed = () => this.draw();
    thread.addEventListener("state", () => this.#drawState());
    thread.addEventListener("answer", (event) => {
      this.#draw();
      this.#announcement.textContent = this.#turns?.spoken(/** @type {CustomEvent} */ (event).detail) ?? "";
    });
    thread.addEventListener("left", () => {
      this.composer.write(this.#announcement.textContent = "");
      this.#draw();
    });
    this.#sizes.observe(this.#log);
    this.#drawState();
    this.#draw();
  }

  /** Adds the greeting and the suggestions, which an empty conversation shows.
   * @param {{greeting: string, suggestions: string[]}} how
   */
  #welcome({ greeting, suggestions }) {
    const list = make("ul", "suggestions");
    for (const suggestion of suggestions) {
      list.append(make("li", "", button("suggestion", suggestion, () => this.#ask(suggestion), suggestion)));
    }
    this.#start.append(make("p", "greeting", greeting));
    if (suggestions.length > 0) this.#start.append(list);
  }

  /** Sends a prompt, and scrolls to the end if it was accepted. @param {string} prompt */
  #ask(prompt) {
    const taken = this.thread.ask(prompt) !== null;
    if (taken) this.#toEnd();
    return taken;
  }

  clear() {
    this.thread.clear();
    this.#followsEnd = true;
    this.composer.field.focus();
  }

  refuse() {
    this.#refused = true;
    this.#showState();
  }

  /** Draws again once the module that draws turns has loaded. That module also has better texts for the banner. */
  arrived() {
    if (!this.#banner.hidden) this.#showState();
    this.draw();
  }

  /** Schedules one draw for all events that arrive before it. During fast output, draws are less frequent. */
  draw() {
    if (this.#drawing) return;
    const rest = Math.min(LONGEST_REST_MS, Math.max(SHORTEST_REST_MS, REST * this.#drawMs, this.#grown / READ_PER_MS));
    const wait = Math.max(0, this.#drawnAt + rest - performance.now());
    this.#drawing = setTimeout(() => requestAnimationFrame(() => {
      this.#drawing = 0;
      const began = performance.now();
      this.#draw();
      this.#drawnAt = performance.now();
      this.#drawMs = this.#drawnAt - began;
      if (this.#log.classList.contains("rushing")) this.draw(); // the end of the fast output may cause no event
    }), wait);
  }

  #draw() {
    const { entries, active } = this.thread;
    const length = active?.handle?.answer.length ?? 0;
    this.#grown = Math.max(0, length - this.#length);
    this.#length = length;
    this.#rush(this.#grown > SHORTEST_REST_MS * READ_PER_MS);
    if (entries.length > 0) this.#turns ??= this.#makeTurns();
    this.#turns?.draw(this.#spokenState);
    this.#start.hidden = entries.length > 0;
    this.#fresh.hidden = entries.length === 0;
    this.composer.show(active !== undefined, active?.handle?.stopping ?? false);
    this.#keepEnd();
  }

  /** While the reader is at the end, skips the layout of the earlier parts of fast output. @param {boolean} rushes */
  #rush(rushes) {
    this.#log.classList.toggle("rushing", rushes && this.#followsEnd);
  }

  #makeTurns() {
    const drawer = this.drawer();
    if (drawer === null) return null;
    const turns = new drawer.Turns(this.thread, this.words, this.composer);
    this.#banner.before(turns.simulation);
    this.#log.append(turns.element);
    this.#sizes.observe(turns.element);
    return turns;
  }

  /** The connection state to show. It stays `open` during short losses. */
  get #spokenState() {
    return this.#banner.hidden ? "open" : this.thread.state;
  }

  /** Updates the dot at once, and the banner after a delay, so that short losses are not reported. */
  #drawState() {
    const { state } = this.thread;
    if (this.#state.dataset.state !== state) {
      this.#state.dataset.state = state;
      this.#stateWord.textContent = this.words[state];
    }
    if (state === "open") {
      clearTimeout(this.#bannerTimer);
      this.#bannerTimer = 0;
      this.#refused = false;
      this.#showState();
    } else if (this.thread.closed) this.#showState();
    else this.#bannerTimer ||= setTimeout(() => this.#showState(), BANNER_DELAY_MS);
  }

  #showState() {
    const { state } = this.thread;
    const fallback = state === "open" ? "" : this.words[state];
    const words = this.drawer()?.bannerOf(this.thread, this.#refused, this.words) ?? fallback;
    this.#banner.dataset.state = this.#refused ? "closed" : state;
    this.#banner.hidden = words === "";
    this.#banner.textContent = words;
    this.draw();
  }

  #scrolled() {
    const top = this.#top, left = this.#left;
    this.#measure();
    // Growing content increases the distance to the end, and only a reader can scroll up. Scroll anchoring in the
    // browser changes the position but not the distance to the end, so only a reader can reduce that distance.
    if (this.#top < top && this.#left > 1) this.#followsEnd = false;
    else if (this.#left < FOLLOW_END_PX && this.#left < left) this.#followsEnd = true;
    if (!this.#followsEnd) this.#rush(false);
    this.#latest.hidden = this.#followsEnd;
  }

  #toEnd() {
    this.#followsEnd = true;
    this.draw();
  }

  #keepEnd() {
    if (this.#followsEnd) {
      this.#log.scrollTop = this.#log.scrollHeight;
      this.#measure();
    }
    this.#latest.hidden = this.#followsEnd;
  }

  #measure() {
    const { scrollHeight, scrollTop, clientHeight } = this.#log;
    this.#top = scrollTop;
    this.#left = scrollHeight - scrollTop - clientHeight;
  }
}
