// @ts-check
/** Shows the parts of an answer other than its text: reasoning, tool calls, a refusal and sources. */

import { make } from "./dom.js";
import { linkTo } from "./link-node.js";
import { ToolView } from "./tool-view.js";
import { fill } from "./words.js";

/** @typedef {import("./aside.js").Aside} Aside */

export class AsideView {
  /** The elements above and below the text. */
  above = make("div", "aside");
  below = make("div", "aside");
  #thoughts = make("div", "thoughts");
  #details;
  #tools;
  #refusal = make("p", "refusal");
  #others = make("p", "others");
  #sources = make("ol", "sources");
  #shown = 0;

  /** Creates the hidden elements above and below an answer.
   * @param {import("./status.js").StatusWords} words
   */
  constructor(words) {
    this.words = words;
    this.#details = make("details", "thinking", make("summary", "thinking-head", words.thoughts), this.#thoughts);
    this.#sources.setAttribute("aria-label", words.sources);
    this.#tools = new ToolView(words);
    this.above.append(this.#details, this.#tools.element);
    this.below.append(this.#tools.pending, this.#refusal, this.#others, this.#sources);
  }

  /** Shows the thoughts, tools, refusal and sources of an answer. Sources that are already shown stay.
   * @param {Aside} aside @param {import("./tool-view.js").Replying} replying
   */
  show({ thoughts, tools, refusal, sources, others = [] }, replying) {
    this.#details.hidden = thoughts === "";
    this.#tools.show(tools, replying);
    this.#refusal.hidden = refusal === "";
    this.#others.hidden = others.length === 0;
    this.#sources.hidden = sources.length === 0;
    setTextOf(this.#thoughts, thoughts);
    setTextOf(this.#refusal, refusal);
    setTextOf(this.#others, fill(this.words.others, { names: others.join(", ") }));
    for (const { url, title } of sources.slice(this.#shown)) {
      const { node, body } = linkTo(url, title);
      body.append(title || url);
      this.#sources.append(make("li", "source", node));
    }
    this.#shown = sources.length;
  }
}

/** Sets the text of an element, unless it already has this text.
 * @param {Element} element @param {string} text
 */
function setTextOf(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
