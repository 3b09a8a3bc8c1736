// @ts-check
/** Reads the tool calls in the items of an answer. This module performs no I/O. */

/**
 * One call. `input` is what the model wrote for the tool, and `output` its result. `callId` is the id that a reply names:
 * of a function call, or of a request for approval. It is null if the provider runs the tool itself.
 * @typedef {{type: string, name: string, input: string, output: string, state: string, callId: string | null}} ToolCall
 */

/** @typedef {import("./protocol.js").Json} Json */

export const FUNCTION = "function_call";
export const APPROVAL = "mcp_approval_request";
/** Image generation counts as unsupported content and not as a tool call. */
const MAKES = "image_generation_call";
/** The maximum number of calls of an answer that are shown, and the maximum lengths of their parts in characters. */
export const MAX_CALLS = 50;
export const LONGEST_INPUT = 20_000;
const LONGEST_OUTPUT = 4_000;
const LONGEST_NAME = 128;

/** Returns the call in an item, or null if the item is no call. @param {import("./response-state.js").Item} item @returns {ToolCall | null} */
export function toolCallOf({ raw, pieces }) {
  const type = typeof raw.type === "string" ? raw.type : "";
  if (type === MAKES || !(type.endsWith("_call") || type === APPROVAL)) return null;
  const streamed = Object.entries(pieces).filter(([kind]) => /_(?:arguments|input|code)$/.test(kind)).map(([, texts]) => texts.join("")).join("");
  return {
    type, name: String(raw.name || type.slice(0, -"_call".length).replaceAll("_", " ")).slice(0, LONGEST_NAME),
    input: (textOf(raw.arguments || raw.input || raw.code || raw.action || raw.operation || raw.queries) || streamed).slice(0, LONGEST_INPUT),
    output: textOf(raw.error || raw.output || raw.outputs || raw.results).slice(0, LONGEST_OUTPUT),
    state: raw.error ? "failed" : String(raw.status ?? "completed"),
    callId: type === FUNCTION && typeof raw.call_id === "string" ? raw.call_id : type === APPROVAL ? String(raw.id) : null,
  };
}

/** Returns a value as text: a text unchanged, another value as JSON. @param {unknown} value */
const textOf = (value) => (typeof value === "string" ? value : value ? JSON.stringify(value) : "");

/** Returns the replies to calls in the requests of a conversation, by the id of the call.
 * @param {import("./thread.js").Entry[]} entries
 */
export function repliesIn(entries) {
  /** @type {Map<string, Json>} */
  const replies = new Map();
  for (const { turn: { request: { input } } } of entries) {
    if (!Array.isArray(input)) continue;
    for (const item of input) {
      const id = item.approval_request_id ?? item.call_id;
      if (typeof id === "string") replies.set(id, item);
    }
  }
  return replies;
}
