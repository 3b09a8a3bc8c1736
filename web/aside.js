// @ts-check
/** What an answer has besides its text: thoughts, tools that were called, a refusal, sources. Pure. */

/** @typedef {{thoughts: string, tools: string[], refusal: string, sources: {url: string, title: string}[]}} Aside */

/** More of the thoughts is not kept with a conversation. */
const LONGEST_THOUGHTS = 20_000;

/**
 * Null where there is nothing but text, which is nearly always.
 * @param {{items: Map<number, import("./answer.js").Item>}} answer
 * @returns {Aside | null}
 */
export function asideOf({ items }) {
  /** @type {Aside} */
  const aside = { thoughts: "", tools: [], refusal: "", sources: [] };
  const known = new Set();
  for (const [, { raw, pieces, annotations }] of [...items].sort(([a], [b]) => a - b)) {
    const parts = listOf(raw.content);
    const said = (/** @type {string} */ kind) => [
      ...(pieces[`response.${kind}`] ?? []), ...[...parts, ...listOf(raw.summary)].filter((part) => part.type === kind)
        .map((part) => String(part.text ?? part.refusal ?? "")),
    ];
    const thought = [...said("reasoning_summary_text"), ...said("summary_text"), ...said("reasoning_text")]
      .filter(Boolean).join("\n\n");
    if (thought !== "") aside.thoughts += (aside.thoughts && "\n\n") + thought;
    const { type = "", name } = raw;
    if (String(type).endsWith("_call")) aside.tools.push(name ? String(name) : type.slice(0, -"_call".length).replaceAll("_", " "));
    aside.refusal += said("refusal").join("");
    for (const { type: kind, url, title } of [...annotations, ...parts.flatMap((part) => listOf(part.annotations))]) {
      if (kind !== "url_citation" || typeof url !== "string" || known.has(url)) continue;
      known.add(url);
      aside.sources.push({ url, title: String(title ?? "") });
    }
  }
  aside.thoughts = aside.thoughts.slice(0, LONGEST_THOUGHTS);
  const { thoughts, tools, refusal, sources } = aside;
  return thoughts === "" && tools.length === 0 && refusal === "" && sources.length === 0 ? null : aside;
}

/** @param {unknown} value @returns {import("./protocol.js").Json[]} */
const listOf = (value) => (Array.isArray(value) ? value.filter((entry) => typeof entry === "object" && entry !== null) : []);
