// @ts-check
/** What was asked and answered, as it is shown. Loaded when there is time, or something to show. */

import sheet from "./answer.css" with { type: "css" };
import { asideOf } from "./aside.js";
import { button, icon, ICONS, make } from "./dom.js";
import { Markdown } from "./markdown.js";
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

/** What the root in which answers are shown adopts. */
export const answerSheet = sheet;

/** More than this of an answer is not read out by itself. */
const SPOKEN_CHARACTERS = 4_000;

/** Some of each kind. */
const SAMPLE = "# a\n\nb **c** *d* `e` [f](https://g.example)\n\n- h\n- i\n\n| j |\n|---|\n| k |\n\n> l\n\n```\nm\n```\n";

/** Draws what nobody sees: code and patterns are compiled at their first use, and no answer should wait for that. */
export function rehearse() {
  const markdown = new Markdown(make("div"), STATUS);
  for (let end = 1; end <= SAMPLE.length; end += 1) markdown.show(SAMPLE.slice(0, end), false);
}

/** The line under an answer. @param {AnswerHandle} handle @param {State} state @param {object} words */
export function noteOf(handle, state, words) {
  return statusWords(handle, state, { ...STATUS, ...words });
}

/** The banner's text, or "". @param {Thread} thread @param {boolean} refused the server does not accept this origin @param {object} words */
export function bannerOf({ state, closed, degraded }, refused, words) {
  const all = { ...STATUS, ...words };
  return refused ? all.bannerForbidden : bannerWords(state, closed, all, degraded);
}

export class Turns {
  element = make("div", "turns");
  /** Says that there is no model behind the answers. */
  simulation = make("p", "simulation");
  /** Forgets that a prompt is being edited. @type {(clear?: boolean) => void} */ #endEdit = () => {};
  /** @type {Map<Turn, TurnView>} */ #views = new Map();
  #words;

  /**
   * @param {Thread} thread @param {object} words in place of the English ones
   * @param {import("./composer.js").Composer} composer where a prompt goes that is to be changed
   */
  constructor(thread, words, composer) {
    this.thread = thread;
    this.composer = composer;
    this.#words = { ...STATUS, ...words };
    this.simulation.id = "simulation";
    this.simulation.hidden = true;
    this.simulation.textContent = this.#words.simulated;
  }

  /** @param {State} state of the connection, as far as it is worth a word */
  draw(state) {
    const { entries, active } = this.thread;
    for (const [turn, view] of this.#views) {
      if (entries.some((entry) => entry.turn === turn)) continue;
      view.element.remove();
      this.#views.delete(turn);
    }
    for (const entry of entries) this.#drawTurn(entry, state, entry === entries.at(-1), active === undefined);
    this.element.hidden = entries.length === 0;
  }

  /** @param {Entry} entry @param {State} state @param {boolean} last @param {boolean} idle */
  #drawTurn({ turn, handle }, state, last, idle) {
    let view = this.#views.get(turn);
    if (view === undefined) {
      view = new TurnView(turn.prompt, this.#words, {
        regenerate: () => this.thread.regenerate(),
        edit: () => this.#edit(turn),
      });
      this.#views.set(turn, view);
      this.element.append(view.element);
    }
    const { status, responseId, text, model } = handle?.answer ?? turn;
    const simulated = model === SIMULATION;
    if (simulated) this.simulation.hidden = false;
    const note = handle ? statusWords(handle, state, this.#words) : turn.note;
    const aside = handle ? asideOf(handle.answer) : turn.aside ?? null;
    view.show({ status, responseId, text, aside, note, simulated, last, idle });
  }

  /**
   * Puts a prompt back into the field; the next one that is sent takes its place. An empty field ends that.
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
    composer.send = (prompt) => {
      const there = thread.entries.at(-1)?.turn === turn;
      const taken = thread.ask(prompt, there ? { instead: turn } : {}) !== null;
      if (taken) this.#endEdit();
      return taken;
    };
    field.addEventListener("input", () => field.value.trim() === "" && this.#endEdit(), { signal });
    field.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || event.isComposing) return;
      event.stopPropagation(); // it would close a floating widget
      this.#endEdit(true);
    }, { signal });
    thread.addEventListener("left", () => this.#endEdit(), { signal });
    field.after(cancel);
    composer.write(turn.prompt);
    field.focus();
  }

  /** The text that a screen reader announces for an answer. @param {Turn} turn */
  spoken(turn) {
    if (turn.status !== "completed") return turn.note;
    return `${this.#words.complete} ${this.#views.get(turn)?.spoken(SPOKEN_CHARACTERS) ?? ""}`;
  }
}
