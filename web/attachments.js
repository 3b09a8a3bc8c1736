// @ts-check
/**
 * Lets visitors attach images and files to a prompt: by a button, by pasting and by dropping. Loaded if the page allows it.
 *
 * The files are sent inside the request. The space that they take is measured as data URLs, because these are sent.
 */

import { button, icon, ICONS, make } from "./dom.js";
import { fileList, partsOf } from "./file-list.js";
import { dataUrl, shrunk } from "./picture.js";
import { SIGNS } from "./signs.js";
import { fill } from "./words.js";

/** @typedef {import("./conversation.js").Attached} Attached */
/** @typedef {import("./protocol.js").Json} Json */

/** The maximum number of images and files of a prompt. */
const MAX_FILES = 10;
/** The default of the attribute `accept`. */
const ACCEPT = "image/*,application/pdf";
/** The part of a request that is kept for the prompt and other fields, in bytes, and a server's default limit of a request. */
const RESERVE = 32_768;
const REQUEST_BYTES = 1_048_576;
/** The longest name that servers accept, in characters. */
const LONGEST_NAME = 255;
/** A data URL needs four characters for three bytes, and a head. */
const HEAD = 128;
const bytesIn = (/** @type {number} */ characters) => Math.max(0, Math.floor(((characters - HEAD) * 3) / 4));

export class Attachments {
  element = make("div", "tray");
  /** @type {{file: Attached, part: Json}[]} */ #taken = [];
  #list = make("div");
  #used = make("p", "tray-size");
  #problem = make("p", "tray-problem");
  #input = make("input");
  #button;
  /** The number of files that are being prepared. */ #waiting = 0;
  /** Files are prepared one after the other, so that each knows how much space is left. */
  #last = Promise.resolve();
  /** Increased when the files are replaced, so that files that are still being prepared are dropped. */ #round = 0;

  /**
   * Adds a button to the composer, and accepts files that are pasted or dropped on the panel.
   * @param {import("./panel.js").Panel} panel
   * @param {import("./status.js").StatusWords} words
   * @param {(bytes: number) => string} size writes a number of bytes
   */
  constructor({ thread, composer, element, host }, words, size) {
    this.thread = thread;
    this.composer = composer;
    this.words = words;
    this.size = size;
    this.host = host;
    this.#button = button("attach", "", () => this.#input.click(), icon(SIGNS.attach));
    this.#input.type = "file";
    this.#input.multiple = this.#input.hidden = true;
    this.#input.addEventListener("change", () => {
      void this.add(this.#input.files ?? []);
      this.#input.value = "";
      composer.field.focus();
    });
    this.#problem.setAttribute("role", "alert");
    this.element.append(this.#list, this.#used, this.#problem);
    composer.field.before(this.#input, this.#button);
    composer.element.before(this.element);
    composer.field.addEventListener("paste", (event) => this.#take(event, event.clipboardData));
    for (const type of ["dragenter", "dragover", "dragleave", "drop"]) {
      element.addEventListener(type, (event) => this.#drag(element, /** @type {DragEvent} */ (event)));
    }
    thread.addEventListener("state", () => this.draw()); // the connection tells the limit
    composer.tray = this;
    this.draw();
  }

  get #accept() {
    return this.host.getAttribute("accept") || ACCEPT;
  }

  get busy() {
    return this.#waiting > 0;
  }

  get filled() {
    return this.#taken.length > 0;
  }

  /** Returns the prompt with its files. @param {string} prompt */
  take(prompt) {
    if (!this.filled) return {};
    const text = prompt ? [{ type: "input_text", text: prompt }] : [];
    return { content: [...text, ...this.#taken.map(({ part }) => part)], files: this.#taken.map(({ file }) => file) };
  }

  /** Shows the files of a turn, or none. A turn from before a reload has no content. @param {import("./conversation.js").Turn} [turn] */
  restore(turn) {
    this.#round += 1;
    const parts = partsOf(turn);
    this.#taken = parts.length > 0 ? (turn?.files ?? []).map((file, index) => ({ file, part: /** @type {Json} */ (parts[index]) })) : [];
    this.#problem.textContent = "";
    this.draw();
  }

  /** Attaches files, as far as they are accepted and fit. @param {Iterable<File>} files */
  add(files) {
    this.#problem.textContent = "";
    const [given, round] = [[...files], this.#round];
    this.#waiting += given.length;
    this.draw();
    for (const file of given) {
      this.#last = this.#last.then(async () => {
        const problem = round === this.#round ? await this.#prepare(file, round) : "";
        this.#waiting -= 1;
        if (problem) this.#problem.append(make("span", "", `${problem} `));
        this.draw();
      });
    }
    return this.#last;
  }

  /** The maximum number of characters of all data URLs together. */
  get #limit() {
    return Math.max(0, (this.thread.limits.message_bytes ?? REQUEST_BYTES) - RESERVE);
  }

  get #left() {
    return this.#limit - this.#taken.reduce((sum, { part }) => sum + urlOf(part).length + HEAD, 0);
  }

  /** Attaches a file. Returns why it cannot be attached, or "". @param {File} file @param {number} round */
  async #prepare(file, round) {
    const { words } = this;
    const name = shortened(file.name);
    if (this.#taken.length >= MAX_FILES) return fill(words.tooManyFiles, { n: MAX_FILES });
    if (file.size === 0) return fill(words.fileEmpty, { name });
    if (!isAccepted(file, this.#accept)) return fill(words.fileRefused, { name });
    const type = file.type || "application/octet-stream";
    const [room, isImage] = [bytesIn(this.#left), type.startsWith("image/")];
    try {
      // The files that wait share the space that is left.
      const blob = isImage ? await shrunk(file, room / this.#waiting) : file.size <= room ? file : null;
      if (!blob) return fill(words.fileTooLarge, { name, limit: this.size(bytesIn(this.#limit)) });
      const url = await dataUrl(blob, isImage ? blob.type : type);
      const part = isImage ? { type: "input_image", image_url: url } : { type: "input_file", filename: name, file_data: url };
      if (round === this.#round) this.#taken.push({ file: { name, size: blob.size, type: blob.type || type }, part });
      return "";
    } catch {
      return fill(isImage ? words.imageUnreadable : words.fileUnreadable, { name });
    }
  }

  /** Attaches the files of a paste or drop, and leaves text to the field. @param {Event} event @param {DataTransfer | null} data */
  #take(event, data) {
    if (!data?.files.length || this.#button.hidden) return;
    event.preventDefault();
    void this.add(data.files);
  }

  /** Shows that files can be dropped, and attaches those that are dropped. @param {HTMLElement} panel @param {DragEvent} event */
  #drag(panel, event) {
    if (!event.dataTransfer?.types.includes("Files") || this.#button.hidden) return;
    event.preventDefault(); // otherwise the browser would open the file
    const isInside = event.relatedTarget instanceof Node && panel.contains(event.relatedTarget);
    panel.classList.toggle("dropping", event.type === "dragenter" || event.type === "dragover" || (event.type === "dragleave" && isInside));
    if (event.type !== "drop") return;
    this.#take(event, event.dataTransfer);
    this.composer.field.focus();
  }

  /** Draws the attached files and the limit, and takes the files that the page has attached. */
  draw() {
    const given = this.host.hasAttribute("attachments") ? this.host.given.splice(0) : [];
    if (given.length > 0) return void this.add(given);
    const { words, size, composer } = this;
    const limit = size(bytesIn(this.#limit));
    const label = fill(words.attach, { limit });
    this.#button.setAttribute("aria-label", label);
    this.#button.title = label;
    this.#button.hidden = !this.host.hasAttribute("attachments");
    this.#input.accept = this.#accept;
    this.#list.replaceChildren(...(this.filled ? [fileList(this.#taken.map(({ file }) => file), this.#taken.map(({ part }) => part), {
      label: words.attached, size, more: (index) => this.#removal(index),
    })] : []));
    const used = size(this.#taken.reduce((sum, { file }) => sum + file.size, 0));
    this.#used.textContent = this.busy ? words.preparing : this.filled ? fill(words.used, { used, limit }) : "";
    this.element.hidden = !this.busy && !this.filled && this.#problem.textContent === "";
    composer.fit();
  }

  /** Makes the button that removes a file. @param {number} index */
  #removal(index) {
    const { file } = /** @type {{file: Attached}} */ (this.#taken[index]);
    return button("remove-file", fill(this.words.removeFile, { name: file.name }), () => {
      this.#taken.splice(index, 1);
      this.#problem.textContent = "";
      this.draw();
      this.composer.field.focus();
    }, icon(ICONS.close));
  }
}

/** Returns the data URL of a content part. @param {Json} part @returns {string} */
const urlOf = ({ image_url, file_data }) => image_url ?? file_data;

/** Returns a name with at most `LONGEST_NAME` characters, which keeps its extension. @param {string} name */
function shortened(name) {
  const end = /\.\w{1,16}$/.exec(name)?.[0] ?? "";
  return name.length <= LONGEST_NAME ? name : name.slice(0, LONGEST_NAME - end.length) + end;
}

/** Returns true if a file is of a kind in `accept`, which the browser itself checks only in its own dialog.
 * @param {File} file @param {string} accept as in HTML: extensions and media types
 */
function isAccepted({ name, type }, accept) {
  if (type === "image/svg+xml") return false; // models do not accept it, and no browser turns it into pixels reliably
  return accept.toLowerCase().split(",").map((kind) => kind.trim()).some((kind) => {
    if (kind.startsWith(".")) return name.toLowerCase().endsWith(kind);
    return kind.endsWith("/*") ? type.startsWith(kind.slice(0, -1)) : type === kind;
  });
}
