// @ts-check
/**
 * The parts of an answer other than its text: reasoning, tool calls, refusal, sources and unsupported items. This
 * module performs no I/O.
 */

import { MAX_MARKS, unitsOf } from "./citations.js";
import { MAX_CALLS, toolCallOf } from "./tool-calls.js";

/**
 * `others` are the types of items and parts that the widget cannot show, for example an image.
 * @typedef {{
 *   thoughts: string, tools: import("./tool-calls.js").ToolCall[], refusal: string, sources: {url: string, title: string}[], others?: string[],
 *   marks?: import("./citations.js").Mark[],
 * }} Aside `marks` are the places in the text that cite a source
 */

/** The types of items and parts that the widget shows, in addition to tool calls. */
const DRAWN = new Set([
  "message", "reasoning", "output_text", "refusal", "summary_text", "reasoning_text", "text",
]);
/**
 * The maximum number of unsupported type names that are kept, and the maximum length of each name in characters. The
 * provider chooses these names.
 */
const MAX_OTHERS = 8;
const LONGEST_TYPE = 64;

/** The maximum number of characters of reasoning that is stored with a conversation. */
const LONGEST_THOUGHTS = 20_000;

/**
 * Returns the parts of an answer other than its text, or null for the usual answer that has only text.
 * @param {{items: Map<number, import("./response-state.js").Item>}} answer
 * @returns {Aside | null}
 */
export function asideOf({ items }) {
  /** @type {Aside} */
  const aside = { thoughts: "", tools: [], refusal: "", sources: [] };
  /** The number of each source, from 1 on. @type {Map<string, number>} */
  const known = new Map();
  /** @type {import("./citations.js").Mark[]} */
  const marks = [];
  let begin = 0;
  /** @type {Set<string>} */
  const others = new Set();
  /** Adds a source, and returns its number. @param {string} url @param {string} title */
  const cite = (url, title) => {
    if (!known.has(url)) known.set(url, aside.sources.push({ url, title }));
    return known.get(url) ?? 0;
  };
  for (const [, item] of [...items].sort(([a], [b]) => a - b)) {
    const { raw, texts, pieces, annotations } = item;
    const parts = listOf(raw.content);
    const textsOf = (/** @type {string} */ kind) => [
      ...(pieces[`response.${kind}`] ?? []), ...[...parts, ...listOf(raw.summary)].filter((part) => part.type === kind)
        .map((part) => String(part.text ?? part.refusal ?? "")),
    ];
    const thought = [...textsOf("reasoning_summary_text"), ...textsOf("summary_text"), ...textsOf("reasoning_text")]
      .filter(Boolean).join("\n\n");
    if (thought !== "") aside.thoughts += (aside.thoughts && "\n\n") + thought;
    const call = toolCallOf(item);
    if (call && aside.tools.length < MAX_CALLS) aside.tools.push(call);
    if (!call) for (const kind of [raw.type, ...parts.map((part) => part.type)]) if (isOther(kind)) others.add(kind.slice(0, LONGEST_TYPE));
    aside.refusal += textsOf("refusal").join("");
    for (const [index, text] of texts.entries()) {
      // Until a message has ended, its annotations belong to its first part.
      const cited = [...(index === 0 ? annotations : []), ...listOf(parts[index]?.annotations)];
      for (const { url, title, end_index: end } of cited.filter(isCitation)) {
        const number = cite(url, String(title ?? ""));
        const mark = begin + unitsOf(text, end);
        const isKnown = marks.some(([position, source]) => position === mark && source === number);
        if (Number.isInteger(end) && !isKnown && marks.length < MAX_MARKS) marks.push([mark, number]);
      }
      begin += text.length;
    }
  }
  aside.thoughts = aside.thoughts.slice(0, LONGEST_THOUGHTS);
  if (others.size > 0) aside.others = [...others].slice(0, MAX_OTHERS);
  if (marks.length > 0) aside.marks = marks;
  const { thoughts, tools, refusal, sources } = aside;
  return thoughts === "" && tools.length === 0 && refusal === "" && sources.length === 0 && !aside.others ? null : aside;
}

/** Returns true if an annotation cites a page. @param {import("./protocol.js").Json} annotation */
const isCitation = ({ type, url }) => type === "url_citation" && typeof url === "string";

/** Returns true if the widget does not draw items or content of this type.
 * @param {unknown} type @returns {type is string}
 */
const isOther = (type) => typeof type === "string" && type !== "" && !DRAWN.has(type);

/** Returns the objects in a list, or an empty list if the value is not a list.
 * @param {unknown} value @returns {import("./protocol.js").Json[]}
 */
const listOf = (value) => (Array.isArray(value) ? value.filter((entry) => typeof entry === "object" && entry !== null) : []);
