// @ts-check
/** Draws the turns. Loaded when the page is idle, or earlier if there is a turn to draw. */

import sheet from "./answer.css" with { type: "css" };
import { asideOf } from "./aside.js";
import { isExpected } from "./conversation.js";
import { suggestionsOf } from "./attributes.js";
import { BranchView } from "./branch-view.js";
import { button, icon, ICONS, make, name } from "./dom.js";
import { EndFollower } from "./end-follower.js";
import { Markdown } from "./markdown.js";
import { sizesIn } from "./file-list.js";
import { watchLater } from "./later-attributes.js";
import { Replier } from "./replier.js";
import { timesIn } from "./times.js";
import { load } from "./place.js";
import { bannerWords, SIMULATION, STATUS, statusWords } from "./status.js";
import { TurnView } from "./turn-view.js";

export { asideOf } from "./aside.js";
export { refusal } from "./refusal.js";
export { fit } from "./seen.js";

/** @typedef {import("./answer-handle.js").AnswerHandle} AnswerHandle */
/** @typedef {import("./connection.js").State} State */
/** @typedef {import("./conversation.js").Turn} Turn */
/** @typedef {import("./thread.js").Entry} Entry */
/** @typedef {import("./thread.js").Thread} Thread */

/** The stylesheet for the root that shows answers. */
export const answerSheet = sheet;

/** The pause after a draw, as a multiple of the draw's duration. It limits the share of time spent on drawing. */
const REST = 12;
const LONGEST_REST_MS = 400;
const SHORTEST_REST_MS = 80;
/** A rate of characters per millisecond that nobody can read. Faster output is drawn in larger steps. */
const READ_PER_MS = 5;

/** The maximum number of characters of an answer that is announced to screen readers. */
const SPOKEN_CHARACTERS = 4_000;

/** A sample with most kinds of Markdown. */
const SAMPLE = "# a\n\nb **c** *d* `e` [f](https://g.example)\n\n- h\n- i\n\n| j |\n|---|\n| k |\n\n> l\n\n```\nm\n```\n";

/** Renders a sample off screen. Code and regular expressions are compiled at first use, which would delay an answer. */
export function rehearse() {
  const markdown = new Markdown(make("div"), STATUS);
  for (let end = 1; end <= SAMPLE.length; end += 1) markdown.show(SAMPLE.slice(0, end), false);
}

/** Returns the line under an answer. @param {AnswerHandle} handle @param {State} state @param {object} words */
export function noteOf(handle, state, words) {
  return statusWords(handle, state, { ...STATUS, ...words });
}

/** Returns the text of the banner, or "". @param {Thread} thread @param {boolean} refused whether the server refuses this origin @param {object} words */
export function bannerOf({ state, closed, degraded }, refused, words) {
  const all = { ...STATUS, ...words };
  return refused ? all.bannerForbidden : bannerWords(state, closed, all, degraded);
}

export class Turns {
  element = make("div", "turns");
  /** A note that the answers are simulated. */
  simulation = make("p", "simulation");
  /** Ends the editing of a prompt. @type {(clear?: boolean) => void} */ #endEdit = () => {};
  /** @type {Map<Turn, TurnView>} */ #views = new Map();
  /** @type {WeakMap<Turn, BranchView>} */ #branches = new WeakMap();
  /** The suggestions after the last answer, and their source. */
  #followUps = make("ul", "suggestions follow-ups");
  /** @type {string | null | undefined} */ #written;
  /** The message of the assistant before the first prompt, and its place before there are turns. @type {HTMLElement | null} */
  #opening = null;
  #openingName = make("p", "name");
  /** @type {Element | null} */ #openingSlot = null;
  #drawnAt = 0;
  #drawMs = 0;
  /** The length of the current answer, and its growth at the last draw, in characters. */
  #length = 0;
  #grown = 0;
  #words;
  /** @type {Replier} */ #replier;
  /** Notices answers that come into view, whose feedback may be on the server. */ #inView;
  /** The last event about the feedback on each turn, by its element. @type {WeakMap<Element, number>} */ #feedbackEvents = new WeakMap();
  /** What sends the feedback; null if the page wants none. @type {Promise<import("./feedback-outbox.js").FeedbackOutbox | void> | null} */ #outbox = null;

  /**
   * Adds the list of turns and the note about simulated answers to a panel.
   * @param {import("./panel.js").Panel} panel
   */
  constructor(panel) {
    const { thread, words, composer, log, banner } = panel;
    this.thread = thread;
    this.composer = composer;
    this.#words = { ...STATUS, ...words };
    this.simulation.id = "simulation";
    this.simulation.hidden = true;
    this.simulation.textContent = this.#words.simulated;
    banner.before(this.simulation);
    this.element.append(this.#followUps);
    log.append(this.element);
    const { host } = panel;
    const language = host.closest("[lang]")?.getAttribute("lang") || "en";
    this.host = host;
    this.panel = panel;
    this.size = sizesIn(language);
    this.time = timesIn(language);
    this.#replier = new Replier(thread, host);
    this.#inView = new IntersectionObserver((seen) => {
      for (const { isIntersecting, target } of seen) if (isIntersecting) void this.#recall(target);
    }, { root: log });
    this.#open(host.getAttribute("opening"), panel.start);
    name(this.#followUps, this.#words.followUps);
    watchLater(host, () => {
      for (const view of this.#views.values()) view.element.remove();
      this.#views.clear();
      this.#branches = new WeakMap();
      this.#attach();
      this.#collect();
      panel.draw();
    });
    this.#attach();
    this.#collect();
    this.follower = new EndFollower(log, this.element, this.#words.latest);
    composer.element.before(this.follower.latest);
  }

  /** The time until the next draw in milliseconds. */
  get rest() {
    const rest = Math.min(LONGEST_REST_MS, Math.max(SHORTEST_REST_MS, REST * this.#drawMs, this.#grown / READ_PER_MS));
    return Math.max(0, this.#drawnAt + rest - performance.now());
  }

  /** Lets visitors attach files, or no longer, as the attributes say. */
  #attach() {
    if (this.composer.tray) return this.composer.tray.draw();
    if (!this.host.hasAttribute("attachments")) return;
    load("attachments.js").then(({ Attachments }) => {
      if (this.element.isConnected && !this.composer.tray) new Attachments(this.panel, this.#words, this.size);
    }).catch((error) => console.error("Holdline: attachments cannot be loaded", error));
  }

  /** Returns what sends the feedback, and what is left from an earlier page, if the attributes say that the page wants feedback. */
  #collect() {
    if (!this.host.hasAttribute("feedback")) return null;
    return this.#outbox ??= load("feedback-outbox.js").then(({ FeedbackOutbox }) => (
      new FeedbackOutbox(this.thread, (/** @type {string} */ responseId) => this.#refuseFeedback(responseId))
    )).catch((error) => {
      this.#outbox = null; // the next call loads the module again
      console.error("Holdline: feedback cannot be sent", error);
    });
  }

  /** Stores the visitor's feedback on an answer, sends it, and tells the page. @param {Turn} turn @param {import("./feedback.js").Feedback} feedback */
  #rate(turn, feedback) {
    turn.feedback = feedback;
    this.thread.conversation.save(turn);
    const { prompt, text, status, responseId } = turn;
    void this.#collect()?.then((outbox) => responseId !== null && outbox?.add(responseId, feedback));
    this.host.dispatchEvent(new CustomEvent("feedback", { detail: { prompt, text, status, responseId, ...feedback } }));
  }

  /** Shows the feedback that the visitor has given on another device or before a reload. @param {Element} element of a turn */
  async #recall(element) {
    this.#inView.unobserve(element);
    const [turn, view] = [...this.#views].find(([, one]) => one.element === element) ?? [];
    if (!turn?.responseId || isExpected(turn)) return;
    const { feedback, feedbackEvent } = turn;
    try {
      const found = await (await this.#collect())?.get(turn.responseId);
      // The visitor has rated the answer meanwhile, here or on another device.
      if (!found || turn.feedback !== feedback || turn.feedbackEvent !== feedbackEvent) return;
      turn.feedback = { rating: found.rating, comment: found.comment };
      view?.giveFeedback(turn.feedback);
    } catch {
      this.thread.addEventListener("state", () => this.#inView.observe(element), { once: true });
    }
  }

  /** Shows that the server refuses the feedback on an answer. @param {string} responseId */
  #refuseFeedback(responseId) {
    for (const [turn, view] of this.#views) if (turn.responseId === responseId) view.refuseFeedback();
  }

  /** Shows the opening message in place of the greeting, until there are turns. @param {string | null} text @param {Element} start */
  #open(text, start) {
    const slot = start.querySelector("slot");
    if (text === null || slot === null) return;
    const body = make("div", "text");
    new Markdown(body, this.#words).show(text, true);
    this.#opening = make("div", "answer opening", body);
    this.#openingName = make("p", "name");
    this.#opening.prepend(this.#openingName);
    this.#openingSlot = slot;
    slot.replaceChildren(this.#opening);
  }

  #drawOpening() {
    const place = this.thread.entries.length > 0 ? this.element : this.#openingSlot;
    if (!place || !this.#opening) return;
    if (this.#opening.parentElement !== place) place.prepend(this.#opening);
    this.#openingName.textContent = this.host.getAttribute("assistant-name") ?? "";
    this.#openingName.hidden = this.#openingName.textContent === "";
  }

  /** Draws the suggestions after the last answer. */
  #drawFollowUps() {
    const { entries, active } = this.thread;
    const written = active || !["completed", "incomplete"].includes(entries.at(-1)?.turn.status ?? "") ? null : this.host.getAttribute("follow-ups");
    if (written === this.#written) return;
    this.#written = written;
    this.#followUps.replaceChildren(...suggestionsOf(written).map((text) => (
      make("li", "", button("suggestion", text, () => void this.panel.ask(text), text)))));
    this.#followUps.hidden = written === null;
  }

  /** Draws all turns, and removes the views of turns that are gone.
   * @param {State} state of the connection, without short losses
   */
  draw(state) {
    const began = performance.now();
    const { entries, active } = this.thread;
    const length = active?.handle?.answer.length ?? 0;
    this.#grown = Math.max(0, length - this.#length);
    this.#length = length;
    this.follower.rush(this.#grown > SHORTEST_REST_MS * READ_PER_MS);
    for (const [turn, view] of this.#views) {
      if (entries.some((entry) => entry.turn === turn)) continue;
      view.element.remove();
      this.#views.delete(turn);
      this.#branches.delete(turn);
    }
    for (const entry of entries) this.#drawTurn(entry, state, entry === entries.at(-1), active === undefined);
    this.#order(entries);
    this.#drawOpening();
    this.#drawFollowUps();
    this.element.hidden = entries.length === 0;
    this.follower.keep();
    this.#drawnAt = performance.now();
    this.#drawMs = this.#drawnAt - began;
  }

  /** Draws one turn, in a view that it creates when it is first needed.
   * @param {Entry} entry @param {State} state @param {boolean} last @param {boolean} idle
   */
  #drawTurn({ turn, handle }, state, last, idle) {
    let view = this.#views.get(turn);
    if (view === undefined) {
      const hasForgotten = turn.whole === true && this.thread.entries.some((entry) => entry.turn.files && entry.turn !== turn);
      const [user, assistant] = ["user-name", "assistant-name"].map((name) => this.host.getAttribute(name) ?? "");
      view = new TurnView(turn, this.#words, { size: this.size, time: this.time, user: user ?? "", assistant: assistant ?? "", rate: this.host.hasAttribute("feedback") ? (feedback) => this.#rate(turn, feedback) : null }, {
        regenerate: () => this.thread.ask(turn.prompt, { instead: turn, like: turn }),
        edit: () => this.#edit(turn),
      });
      if (hasForgotten) view.element.prepend(make("p", "note forgotten", this.#words.filesForgotten));
      this.#views.set(turn, view);
      this.#followUps.before(view.element);
    }
    if (this.host.hasAttribute("feedback")) this.#watchFeedback(turn, view.element);
    const { status, responseId, text, model } = handle?.answer ?? turn;
    const simulated = model === SIMULATION;
    if (simulated) this.simulation.hidden = false;
    const isLost = !handle && status === "sending" && !isExpected(turn);
    const note = handle ? statusWords(handle, state, this.#words) : isLost ? this.#words.filesElsewhere : turn.held ? this.#words.unsent : turn.note;
    const aside = handle ? asideOf(handle.answer) : turn.aside ?? null;
    view.show({ status: isLost ? "failed" : status, repeats: turn.request.input !== undefined, replying: this.#replier.of(turn), responseId, text, aside, note, simulated, last, idle, branches: this.thread.conversation.branchOf !== undefined });
    this.#drawBranch(turn, view.element);
  }

  /** Fetches the feedback on a turn of a conversation on the server, when the turn comes into view and after each event about it.
   * @param {Turn} turn @param {Element} element
   */
  #watchFeedback(turn, element) {
    const { feedbackEvent } = turn;
    if (feedbackEvent === undefined || isExpected(turn) || feedbackEvent === this.#feedbackEvents.get(element)) return;
    this.#feedbackEvents.set(element, feedbackEvent);
    this.#inView.observe(element);
  }

  /** Draws the buttons that show the other versions of a turn, if the conversation has branches.
   * @param {Turn} turn @param {Element} element
   */
  #drawBranch(turn, element) {
    const { conversation } = this.thread;
    const { place, ids } = conversation.branchOf?.(turn) ?? { place: 0, ids: [] };
    let view = this.#branches.get(turn);
    if (view === undefined && ids.length > 1) {
      view = new BranchView(this.#words, (responseId) => conversation.choose?.(responseId));
      this.#branches.set(turn, view);
      element.append(view.element);
    }
    view?.show(place, ids);
  }

  /** Puts the views into the order of the turns, which other devices can change. @param {Entry[]} entries */
  #order(entries) {
    /** @type {Element} */
    let next = this.#followUps;
    for (const { turn } of entries.toReversed()) {
      const element = this.#views.get(turn)?.element;
      if (!element) continue;
      if (element.nextSibling !== next) next.before(element);
      next = element;
    }
  }

  /**
   * Puts an earlier prompt into the input field for editing. The next prompt that is sent replaces its turn. Emptying
   * the field cancels the edit.
   * @param {Turn} turn
   */
  #edit(turn) {
    const { composer, thread } = this;
    const { field, send } = composer;
    this.#endEdit();
    const listening = new AbortController();
    const { signal } = listening;
    const cancel = button("cancel", this.#words.cancelEdit, () => this.#endEdit(true), icon(ICONS.close));
    this.#endEdit = (clear = false) => {
      listening.abort();
      cancel.remove();
      composer.send = send;
      this.#endEdit = () => {};
      if (clear) composer.write("");
      if (clear) field.focus();
    };
    composer.send = (prompt, how) => {
      const there = thread.conversation.branchOf !== undefined || thread.entries.at(-1)?.turn === turn;
      const taken = thread.ask(prompt, { ...how, ...(there && { instead: turn }) }) !== null;
      if (taken) this.#endEdit();
      return taken;
    };
    field.addEventListener("input", () => field.value.trim() === "" && !composer.tray?.filled && this.#endEdit(), { signal });
    field.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || event.isComposing) return;
      event.stopPropagation(); // otherwise Escape would also close a floating widget
      this.#endEdit(true);
    }, { signal });
    thread.addEventListener("left", () => this.#endEdit(), { signal });
    field.after(cancel);
    composer.write(turn.prompt, turn);
    field.focus();
  }

  /** Returns the text that a screen reader announces for an answer. @param {Turn} turn */
  spoken(turn) {
    if (turn.status !== "completed") return turn.note;
    return `${this.#words.complete} ${this.#views.get(turn)?.spoken(SPOKEN_CHARACTERS) ?? ""}`;
  }
}
