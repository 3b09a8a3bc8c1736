// @ts-check
/** One prompt and its answer on the page. Text is only ever set as text. */

/** @typedef {import("./answer.js").Status} Status */

/**
 * What an answer shows.
 * @typedef {{responseId: string | null, status: Status, text: string, note: string, simulated: boolean, again: boolean}}
 *   Shown `note` is the line under the text; `again` offers to ask once more
 */

export class TurnView {
  #prompt = element("div", "prompt");
  #answer = element("article", "answer");
  #body = element("div", "text");
  #text = document.createTextNode("");
  #tag = element("span", "tag");
  #note = element("span", "note");
  #again = /** @type {HTMLButtonElement} */ (element("button", "again"));
  #shownStatus = "";

  /**
   * @param {string} prompt
   * @param {() => void} askAgain
   */
  constructor(prompt, askAgain) {
    const who = element("span", "hidden-words");
    who.textContent = "You asked: ";
    this.#prompt.append(who, prompt);
    this.#answer.setAttribute("aria-label", "Answer");
    this.#body.append(this.#text);
    this.#body.hidden = true;
    this.#tag.textContent = "simulation";
    this.#again.type = "button";
    this.#again.textContent = "Ask again";
    this.#again.addEventListener("click", askAgain);
    const line = element("div", "line");
    line.append(element("span", "dot"), this.#note, this.#tag, this.#again);
    this.#answer.append(this.#body, line);
    this.elements = [this.#prompt, this.#answer];
  }

  /** @param {Shown} shown */
  show({ responseId, status, text, note, simulated, again }) {
    const data = this.#answer.dataset;
    if (responseId !== null) data.responseId = responseId;
    this.#showText(text);
    if (this.#note.textContent !== note) this.#note.textContent = note;
    this.#note.hidden = note === "";
    this.#tag.hidden = !simulated;
    this.#again.hidden = !again;
    if (status === this.#shownStatus) return;
    this.#shownStatus = status;
    data.status = status;
    const running = status === "sending" || status === "queued" || status === "in_progress";
    this.#answer.setAttribute("aria-busy", String(running)); // a screen reader hears it once, when it is whole
  }

  remove() {
    for (const node of this.elements) node.remove();
  }

  /** What is there already stays: a long answer is not laid out anew, a selection in it survives.
   * @param {string} text
   */
  #showText(text) {
    const there = this.#text.data;
    if (text === there) return;
    if (text.startsWith(there)) this.#text.appendData(text.slice(there.length));
    else this.#text.data = text;
    this.#body.hidden = text === "";
  }
}

/** @param {string} name @param {string} className */
function element(name, className) {
  const made = document.createElement(name);
  made.className = className;
  return made;
}
