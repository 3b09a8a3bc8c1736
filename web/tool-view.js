// @ts-check
/** Shows the tool calls of an answer: name, state, input and output, and buttons where the visitor must decide. */

import { button, make } from "./dom.js";
import { APPROVAL } from "./tool-calls.js";
import { fill } from "./words.js";

/** @typedef {import("./tool-calls.js").ToolCall} ToolCall */
/** @typedef {import("./protocol.js").Json} Json */

/**
 * What is known of the calls besides the answer: the replies to them by id, and, if the conversation waits for replies,
 * functions that give them. `run` asks the page for the results of functions again.
 * @typedef {{replies: Map<string, Json>, decide: ((call: ToolCall, approve: boolean) => void) | null, run: (() => void) | null}} Replying
 */

export class ToolView {
  element = make("div", "tools");
  /** What the visitor must decide. It stands below the text, which may explain it. */
  pending = make("div", "tools");
  #drawn = "";
  /** The calls that the visitor has opened. @type {Set<number>} */ #open = new Set();

  /** Creates the hidden element. @param {import("./status.js").StatusWords} words */
  constructor(words) {
    this.words = words;
    this.element.hidden = this.pending.hidden = true;
  }

  /** Draws the calls, if something has changed. @param {ToolCall[]} calls @param {Replying} replying */
  show(calls, { replies, decide, run }) {
    const state = JSON.stringify([calls, calls.map(({ callId }) => replies.get(callId ?? "")), !decide, !run]);
    if (state === this.#drawn) return;
    this.#drawn = state;
    this.element.replaceChildren();
    this.pending.replaceChildren(...(run ? [button("again", this.words.runTools, run, this.words.runTools)] : []));
    for (const [index, call] of calls.entries()) {
      const reply = replies.get(call.callId ?? "");
      const isPending = call.type === APPROVAL && !reply && decide !== null;
      if (isPending) this.pending.append(this.#approval(call, index, decide));
      else this.element.append(this.#call(call, index, reply));
    }
    this.element.hidden = !this.element.firstChild;
    this.pending.hidden = !this.pending.firstChild;
  }

  /** Draws one call. @param {ToolCall} call @param {number} index @param {Json} [reply] */
  #call(call, index, reply) {
    const { words } = this;
    const details = make("details", "tool", make("summary", "tool-head", make("span", "tool-name", call.name), make("span", "tool-state", this.#stateOf(call, reply))));
    details.dataset.state = call.state;
    details.open = this.#open.has(index);
    details.addEventListener("toggle", () => void this.#open[details.open ? "add" : "delete"](index));
    details.append(...block(words.toolInput, call.input), ...block(words.toolOutput, outputOf(reply) || call.output));
    return details;
  }

  /** Draws a call that the visitor must allow. @param {ToolCall} call @param {number} index @param {NonNullable<Replying["decide"]>} decide */
  #approval(call, index, decide) {
    const { words } = this;
    const details = this.#call(call, index);
    const question = make("p", "approval-question", fill(words.approvalQuestion, { name: call.name }));
    details.open = true; // the visitor must see what is asked for
    return make("div", "approval", question, details, make("div", "approval-actions",
      button("approve", fill(words.approve, { name: call.name }), () => decide(call, true), words.approve),
      button("again deny", fill(words.deny, { name: call.name }), () => decide(call, false), words.deny)));
  }

  /** Returns the state of a call as text. @param {ToolCall} call @param {Json | undefined} reply */
  #stateOf({ type, state, callId }, reply) {
    const { words } = this;
    if (type === APPROVAL && reply) return reply.approve ? words.approved : words.denied;
    if (state === "in_progress") return words.toolRunning;
    if (state !== "completed") return words.toolFailed;
    return callId === null || reply ? words.toolDone : words.toolWaiting;
  }
}

/** Returns the output in a reply. @param {Json | undefined} reply @returns {string} */
const outputOf = (reply) => (typeof reply?.output === "string" ? reply.output.slice(0, 4_000) : "");

/** Returns a label and a text that scrolls, or nothing for an empty text. @param {string} label @param {string} text */
function block(label, text) {
  if (text === "") return [];
  const scroll = make("pre", "tool-text", text);
  scroll.tabIndex = 0;
  scroll.setAttribute("role", "group");
  scroll.setAttribute("aria-label", label);
  return [make("p", "tool-label", label), scroll];
}
