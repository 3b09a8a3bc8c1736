// @ts-check
/** The form in which a prompt is written, sent and stopped. */

import { button, icon, ICONS, make } from "./dom.js";

/** @typedef {import("./words.js").Words} Words */

const TALLEST_PX = 200;

/**
 * Holds the images and files of the next prompt. `take` returns what `Thread.ask` needs besides the prompt. `restore`
 * shows the files of a turn that is edited, or removes all files.
 * @typedef {{
 *   busy: boolean, filled: boolean, take: (prompt: string) => object,
 *   restore: (turn?: import("./conversation.js").Turn) => void, draw: () => void,
 * }} Tray
 */

export class Composer {
  element = make("form", "composer");
  field = make("textarea", "field");
  /** Null until files can be attached. @type {Tray | null} */ tray = null;
  #send;
  #stop;

  /**
   * Creates the form.
   * @param {Words} words
   * @param {{send: (prompt: string, how?: object) => boolean, stop: () => void}} actions `send` returns whether the prompt was accepted
   */
  constructor(words, { send, stop }) {
    this.send = send;
    const label = make("label", "unseen", words.prompt);
    label.htmlFor = this.field.id = "prompt";
    this.field.rows = 1;
    this.field.enterKeyHint = "send";
    this.field.autocomplete = "off";
    this.#send = button("send", words.send, () => this.submit(), icon(ICONS.send));
    this.#stop = button("stop", words.stop, () => {
      stop();
      this.field.focus();
    }, icon(ICONS.stop));
    this.#send.id = "send";
    this.#stop.id = "stop";
    this.element.append(label, this.field, this.#send, this.#stop);
    this.field.addEventListener("input", () => this.fit());
    this.field.addEventListener("keydown", (event) => {
      // During an IME composition, Enter selects a word. Safari reports this Enter as key 229 after the composition.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
      event.preventDefault();
      this.submit();
    });
    this.#send.disabled = true;
    this.show(false, false);
  }

  submit() {
    const prompt = this.field.value.trim();
    if (this.#sendable && this.send(prompt, this.tray?.take(prompt))) this.write("");
  }

  /** Replaces the text in the field, and the attached files with those of a turn.
   * @param {string} text @param {import("./conversation.js").Turn} [turn]
   */
  write(text, turn) {
    this.field.value = text;
    this.tray?.restore(turn);
    this.fit();
  }

  get #sendable() {
    return !this.tray?.busy && (this.field.value.trim() !== "" || this.tray?.filled);
  }

  fit() {
    this.field.style.height = "auto";
    this.field.style.height = `${Math.min(this.field.scrollHeight, TALLEST_PX)}px`;
    this.#send.disabled = !this.#sendable;
  }

  /** Shows the button that sends or, while an answer is running, the button that stops it.
   * @param {boolean} running @param {boolean} stopping
   */
  show(running, stopping) {
    this.#send.hidden = running;
    this.#stop.hidden = !running;
    this.#stop.disabled = stopping;
  }
}
