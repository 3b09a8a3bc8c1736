// @ts-check
/** What is seen of a conversation: its head, its turns, the banner, the place to write. It draws what a thread has. */

import { Composer } from "./composer.js";
import { button, icon, ICONS, make, name } from "./dom.js";
import { SIMULATION } from "./words.js";

/** @typedef {import("./words.js").Words} Words */
/** @typedef {import("./thread.js").Thread} Thread */
/** @typedef {import("./thread.js").Entry} Entry */
/** @typedef {import("./conversation.js").Turn} Turn */
/** @typedef {import("./turn-view.js").TurnView} TurnView */

/** Milliseconds without a connection before one speaks of it: most losses are over by then. */
const DOUBT_MS = 1_500;
/** Who has scrolled up further than this reads, and is not carried along. */
const FOLLOW_END_PX = 96;
/** Drawing takes at most a part of the time: after a draw, the next waits this many times as long as it took. */
const REST = 12;
const LONGEST_REST_MS = 300;
const SHORTEST_REST_MS = 80;
/** More than this of an answer is not read out by itself. */
const SPOKEN_CHARACTERS = 4_000;

export class Panel {
  element = make("section", "panel");
  #log = make("div", "log");
  #turns = make("div", "turns");
  #start = make("div", "start");
  #state = make("p", "state");
  #stateWord = make("span", "state-word");
  #simulation = make("p", "simulation");
  #banner = make("p", "banner");
  #said = make("p", "unseen");
  #latest;
  #fresh;
  /** @type {Map<Turn, TurnView>} */ #views = new Map();
  #drawing = 0;
  #drawnAt = 0;
  #drawMs = 0;
  #followsEnd = true;
  #doubt = 0;
  /** The server does not let this site in, which the connection cannot know. */ #refused = false;

  /**
   * @param {Thread} thread @param {Words} words
   * @param {() => typeof import("./turn-view.js") | null} drawer draws turns, once it is there; then `draw` is called
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
    this.#simulation.id = "simulation";
    this.#said.setAttribute("role", "status");
    this.#banner.setAttribute("role", "status");
    // It is a log to who walks through it. What is added is said once, whole, by the status below it.
    this.#log.setAttribute("role", "log");
    this.#log.setAttribute("aria-live", "off");
    name(this.#log, words.conversation);
    this.#log.tabIndex = 0;
    this.#simulation.hidden = this.#banner.hidden = this.#latest.hidden = true;
    this.#welcome(how);
    const close = button("close", words.closeChat, how.close, icon(ICONS.close));
    const title = make("h2", "title", how.title);
    title.id = "title";
    this.element.setAttribute("aria-labelledby", "title");
    this.#log.append(this.#start, this.#turns);
    this.element.append(
      make("header", "head", title, this.#state, this.#fresh, close),
      this.#simulation, this.#banner, this.#log,
      make("footer", "foot", this.#latest, this.composer.element), this.#said,
    );
    this.#log.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    thread.changed = () => this.draw();
    thread.addEventListener("state", () => this.#drawState());
    thread.addEventListener("answer", (event) => this.#say(/** @type {CustomEvent<Turn>} */ (event).detail));
    new ResizeObserver(() => this.#keepEnd()).observe(this.#log);
    this.#drawState();
    this.#draw();
  }

  /** @param {{greeting: string, suggestions: string[]}} how */
  #welcome({ greeting, suggestions }) {
    const list = make("ul", "suggestions");
    for (const suggestion of suggestions) {
      list.append(make("li", "", button("suggestion", suggestion, () => this.#ask(suggestion), suggestion)));
    }
    this.#start.append(make("p", "greeting", greeting));
    if (suggestions.length > 0) this.#start.append(list);
  }

  /** @param {string} prompt */
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
    this.#tellState();
  }

  /** Draws before long, however many events come until then; while much comes, not more often than it can be read. */
  draw() {
    if (this.#drawing) return;
    const rest = Math.min(LONGEST_REST_MS, Math.max(SHORTEST_REST_MS, REST * this.#drawMs));
    const wait = Math.max(0, this.#drawnAt + rest - performance.now());
    this.#drawing = setTimeout(() => requestAnimationFrame(() => {
      this.#drawing = 0;
      const began = performance.now();
      this.#draw();
      this.#drawnAt = performance.now();
      this.#drawMs = this.#drawnAt - began;
    }), wait);
  }

  #draw() {
    const { entries, active } = this.thread;
    for (const [turn, view] of this.#views) {
      if (entries.some((entry) => entry.turn === turn)) continue;
      view.element.remove();
      this.#views.delete(turn);
    }
    const drawer = entries.length > 0 ? this.drawer() : null;
    for (const entry of drawer ? entries : []) {
      this.#drawTurn(/** @type {NonNullable<typeof drawer>} */ (drawer), entry, entry === entries.at(-1), active === undefined);
    }
    this.#start.hidden = entries.length > 0;
    this.#turns.hidden = entries.length === 0;
    this.#fresh.hidden = entries.length === 0;
    this.composer.show(active !== undefined, active?.handle?.stopping ?? false);
    this.#keepEnd();
  }

  /** @param {typeof import("./turn-view.js")} drawer @param {Entry} entry @param {boolean} last @param {boolean} idle */
  #drawTurn({ TurnView, noteOf }, { turn, handle }, last, idle) {
    let view = this.#views.get(turn);
    if (view === undefined) {
      view = new TurnView(turn.prompt, this.words, {
        regenerate: () => this.thread.regenerate(),
        edit: () => this.#edit(turn),
      });
      this.#views.set(turn, view);
      this.#turns.append(view.element);
    }
    const { status, responseId, text, model } = handle?.answer ?? turn;
    const simulated = model === SIMULATION;
    if (simulated && this.#simulation.hidden) {
      this.#simulation.textContent = TurnView.words(this.words).simulated;
      this.#simulation.hidden = false;
    }
    const note = handle ? noteOf(handle, this.#spokenState, this.words) : turn.note;
    view.show({ status, responseId, text, note, simulated, last, idle });
  }

  /** The prompt goes back to where it was written; what is sent then takes its place. @param {Turn} turn */
  #edit(turn) {
    this.composer.write(turn.prompt);
    this.composer.field.focus();
    const send = this.composer.send;
    this.composer.send = (prompt) => {
      this.composer.send = send;
      const there = this.thread.entries.at(-1)?.turn === turn;
      return this.thread.ask(prompt, there ? { instead: turn } : {}) !== null;
    };
  }

  /** What is said of an answer to who does not see it, once. @param {Turn} turn */
  #say(turn) {
    this.#draw();
    const spoken = this.#views.get(turn)?.spoken(SPOKEN_CHARACTERS) ?? "";
    const complete = this.drawer()?.TurnView.words(this.words).complete;
    this.#said.textContent = turn.status === "completed" ? `${complete} ${spoken}` : turn.note;
  }

  /** A loss that nobody has had time to notice is not spoken of. */
  get #spokenState() {
    return this.#banner.hidden ? "open" : this.thread.state;
  }

  /** The dot tells at once; the banner waits until there is something to worry about. */
  #drawState() {
    const { state } = this.thread;
    if (this.#state.dataset.state !== state) {
      this.#state.dataset.state = state;
      this.#stateWord.textContent = this.words[state];
    }
    if (state === "open") {
      clearTimeout(this.#doubt);
      this.#doubt = 0;
      this.#refused = false;
      this.#tellState();
    } else if (state === "closed") this.#tellState();
    else this.#doubt ||= setTimeout(() => this.#tellState(), DOUBT_MS);
  }

  #tellState() {
    const { state } = this.thread;
    const fallback = state === "open" ? "" : this.words[state];
    const words = this.drawer()?.bannerOf(this.thread, this.#refused, this.words) ?? fallback;
    this.#banner.dataset.state = this.#refused ? "closed" : state;
    this.#banner.hidden = words === "";
    this.#banner.textContent = words;
    this.draw();
  }

  #scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.#log;
    this.#followsEnd = scrollHeight - scrollTop - clientHeight < FOLLOW_END_PX;
    this.#latest.hidden = this.#followsEnd;
  }

  #toEnd() {
    this.#followsEnd = true;
    this.draw();
  }

  #keepEnd() {
    if (this.#followsEnd) this.#log.scrollTop = this.#log.scrollHeight;
    this.#latest.hidden = this.#followsEnd;
  }
}
