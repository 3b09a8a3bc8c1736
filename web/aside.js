// @ts-check
/**
 * The parts of an answer other than its text: reasoning, tool calls, refusal, sources and unsupported items. This
 * module performs no I/O.
 */

/**
 * `others` are the types of items and parts that the widget cannot show, for example an image.
 * @typedef {{
 *   thoughts: string, tools: string[], refusal: string, sources: {url: string, title: string}[], others?: string[],
 * }} Aside
 */

/** The types of items and parts that the widget shows, in addition to tool calls. */
const DRAWN = new Set([
  "message", "reasoning", "output_text", "refusal", "summary_text", "reasoning_text", "text",
]);
/** Image generation counts as unsupported content and not as a tool call. */
const MAKES = "image_generation_call";
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
  const known = new Set();
  /** @type {Set<string>} */
  const others = new Set();
  for (const [, { raw, pieces, annotations }] of [...items].sort(([a], [b]) => a - b)) {
    const parts = listOf(raw.content);
    const textsOf = (/** @type {string} */ kind) => [
      ...(pieces[`response.${kind}`] ?? []), ...[...parts, ...listOf(raw.summary)].filter((part) => part.type === kind)
        .map((part) => String(part.text ?? part.refusal ?? "")),
    ];
    const thought = [...textsOf("reasoning_summary_text"), ...textsOf("summary_text"), ...textsOf("reasoning_text")]
      .filter(Boolean).join("\n\n");
    if (thought !== "") aside.thoughts += (aside.thoughts && "\n\n") + thought;
    const { name } = raw;
    const type = typeof raw.type === "string" ? raw.type : "";
    if (type.endsWith("_call") && type !== MAKES) aside.tools.push(name ? String(name) : type.slice(0, -"_call".length).replaceAll("_", " "));
    else for (const kind of [type, ...parts.map((part) => part.type)]) if (isOther(kind)) others.add(kind.slice(0, LONGEST_TYPE));
    aside.refusal += textsOf("refusal").join("");
    for (const { type: kind, url, title } of [...annotations, ...parts.flatMap((part) => listOf(part.annotations))]) {
      if (kind !== "url_citation" || typeof url !== "string" || known.has(url)) continue;
      known.add(url);
      aside.sources.push({ url, title: String(title ?? "") });
    }
  }
  aside.thoughts = aside.thoughts.slice(0, LONGEST_THOUGHTS);
  if (others.size > 0) aside.others = [...others].slice(0, MAX_OTHERS);
  const { thoughts, tools, refusal, sources } = aside;
  return thoughts === "" && tools.length === 0 && refusal === "" && sources.length === 0 && !aside.others ? null : aside;
}

/** Returns whether the widget does not draw items or content of this type.
 * @param {unknown} type @returns {type is string}
 */
const isOther = (type) => typeof type === "string" && type !== "" && !DRAWN.has(type);

/** Returns the objects in a list, or an empty list if the value is not a list.
 * @param {unknown} value @returns {import("./protocol.js").Json[]}
 */
const listOf = (value) => (Array.isArray(value) ? value.filter((entry) => typeof entry === "object" && entry !== null) : []);
