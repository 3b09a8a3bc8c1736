// @ts-check
/** What an answer has besides its text: thoughts, tools that were called, a refusal, sources, what nobody can draw. Pure. */

/**
 * `others` are the types of items and parts that are not drawn, for example of an image.
 * @typedef {{
 *   thoughts: string, tools: string[], refusal: string, sources: {url: string, title: string}[], others?: string[],
 * }} Aside
 */

/** What is drawn, beside the calls of tools. */
const DRAWN = new Set([
  "message", "reasoning", "output_text", "refusal", "summary_text", "reasoning_text", "text",
]);
/** A call whose point is what it made. */
const MAKES = "image_generation_call";
/** Types are a provider's words: so many of them, of so many characters. */
const MAX_OTHERS = 8;
const LONGEST_TYPE = 64;

/** More of the thoughts is not kept with a conversation. */
const LONGEST_THOUGHTS = 20_000;

/**
 * Null where there is nothing but text, which is nearly always.
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

/** @param {unknown} type @returns {type is string} */
const isOther = (type) => typeof type === "string" && type !== "" && !DRAWN.has(type);

/** @param {unknown} value @returns {import("./protocol.js").Json[]} */
const listOf = (value) => (Array.isArray(value) ? value.filter((entry) => typeof entry === "object" && entry !== null) : []);
