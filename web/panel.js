// @ts-check
/** Draws a thread: the header, the turns, the banner and the composer. */

import { Composer } from "./composer.js";
import { button, icon, ICONS, make, name } from "./dom.js";

/** @typedef {import("./words.js").Words} Words */
/** @typedef {import("./thread.js").Thread} Thread */
/** @typedef {import("./turns.js").Turns} Turns */
/** @typedef {HTMLElement & {tools: import("./replier.js").PageTool[] | undefined, given: File[]}} Host the widget */

/** The delay before the banner reports a lost connection, in milliseconds. Most losses are shorter. */
const BANNER_DELAY_MS = 1_500;
/** Makes a slot, in which a page can put elements of its own. @param {string} name @param {...Node} children shown if the slot is empty */
export function slot(name, ...children) {
  const made = make("slot", "", ...children);
  made.name = name;
  return made;
}

export class Panel {
  element = make("section", "panel");
  log = make("div", "log");
  start = make("div", "start");
  banner = make("p", "banner");
  #state = make("p", "state");
  #stateWord = make("span", "state-word");
  #announcement = make("p", "unseen");
  #fresh;
  /** The drawn turns, once their module has loaded. @type {Turns | null} */ #turns = null;
  #drawing = 0;
  #bannerTimer = 0;
  /** True if the server refuses this origin, which the connection cannot detect. */ #refused = false;

  /**
   * Creates the panel and draws the conversation.
   * @param {Thread} thread @param {Words} words
   * @param {() => typeof import("./turns.js") | null} drawer returns the module that draws turns, or null until it has loaded
   * @param {{host: Host, title: string, greeting: string, suggestions: string[], placeholder: string, close: () => void}} how
   */
  constructor(thread, words, drawer, how) {
    this.thread = thread;
    this.words = words;
    this.drawer = drawer;
    this.host = how.host;
    this.composer = new Composer(words, {
      send: (prompt, how) => this.ask(prompt, how),
      stop: () => thread.stop(),
    });
    this.composer.field.placeholder = how.placeholder;
    this.#fresh = button("action fresh", words.fresh, () => this.clear(), icon(ICONS.fresh));
    this.#fresh.id = "new";
    this.#state.id = "state";
    this.banner.id = "banner";
    this.#state.append(make("span", "dot"), this.#stateWord);
    this.#announcement.setAttribute("role", "status");
    this.banner.setAttribute("role", "status");
    // Assistive technology presents this element as a log. Only the announcement element announces answers: each answer
    // once, when it has ended.
    this.log.setAttribute("role", "log");
    this.log.setAttribute("aria-live", "off");
    name(this.log, words.conversation);
    this.log.tabIndex = 0;
    this.banner.hidden = true;
    this.#welcome(how);
    const close = button("action close", words.closeChat, how.close, icon(ICONS.close));
    const title = make("h2", "title", how.title);
    title.id = "title";
    this.element.setAttribute("aria-labelledby", "title");
    this.log.append(this.start);
    this.element.append(
      make("header", "head", slot("header", title), this.#state, this.#fresh, close),
      this.banner, this.log,
      make("footer", "foot", slot("before-composer"), this.composer.element), this.#announcement,
    );
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
    this.#drawState();
    this.#draw();
  }

  /** Adds the greeting and the suggestions, which an empty conversation shows.
   * @param {{greeting: string, suggestions: string[]}} how
   */
  #welcome({ greeting, suggestions }) {
    const list = make("ul", "suggestions");
    for (const suggestion of suggestions) {
      list.append(make("li", "", button("suggestion", suggestion, () => this.ask(suggestion), suggestion)));
    }
    this.start.append(slot("greeting", make("p", "greeting", greeting)));
    if (suggestions.length > 0) this.start.append(list);
  }

  /** Sends a prompt, and scrolls to the end if it was accepted. @param {string} prompt @param {object} [how] as in `Thread.ask` */
  ask(prompt, how) {
    const taken = this.thread.ask(prompt, how) !== null;
    if (taken) this.#turns?.follower.toEnd();
    return taken;
  }

  clear() {
    this.thread.clear();
    this.#turns?.follower.toEnd();
    this.composer.field.focus();
  }

  refuse() {
    this.#refused = true;
    this.#showState();
  }

  /** Draws again once the module that draws turns has loaded. That module also has better texts for the banner. */
  arrived() {
    this.#turns ??= this.#makeTurns();
    if (!this.banner.hidden) this.#showState();
    this.draw();
  }

  /** Schedules one draw for all events that arrive before it. During fast output, draws are less frequent. */
  draw() {
    this.#drawing ||= setTimeout(() => requestAnimationFrame(() => {
      this.#drawing = 0;
      this.#draw();
      if (this.#turns?.follower.rushes) this.draw(); // the end of the fast output may cause no event
    }), this.#turns?.rest);
  }

  #draw() {
    const { entries, active } = this.thread;
    if (entries.length > 0) this.#turns ??= this.#makeTurns();
    this.start.hidden = entries.length > 0;
    this.#fresh.hidden = entries.length === 0;
    this.composer.show(active !== undefined, active?.handle?.stopping ?? false);
    this.#turns?.draw(this.#spokenState);
  }

  #makeTurns() {
    const drawer = this.drawer();
    if (drawer === null) return null;
    return new drawer.Turns(this);
  }

  /** The connection state to show. It stays `open` during short losses. */
  get #spokenState() {
    return this.banner.hidden ? "open" : this.thread.state;
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
    this.banner.dataset.state = this.#refused ? "closed" : state;
    this.banner.hidden = words === "";
    this.banner.textContent = words;
    this.draw();
  }
}
