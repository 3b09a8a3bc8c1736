// @ts-check
/** The form in which a prompt is written, sent and stopped. */

import { button, icon, ICONS, make } from "./dom.js";

/** @typedef {import("./words.js").Words} Words */

const TALLEST_PX = 200;

export class Composer {
  element = make("form", "composer");
  field = make("textarea", "field");
  #send;
  #stop;

  /**
   * Creates the form.
   * @param {Words} words
   * @param {{send: (prompt: string) => boolean, stop: () => void}} actions `send` returns whether the prompt was accepted
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
    if (prompt && this.send(prompt)) this.write("");
  }

  /** Replaces the text in the field. @param {string} text */
  write(text) {
    this.field.value = text;
    this.fit();
  }

  fit() {
    this.field.style.height = "auto";
    this.field.style.height = `${Math.min(this.field.scrollHeight, TALLEST_PX)}px`;
    this.#send.disabled = this.field.value.trim() === "";
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
