// @ts-check
/**
 * The texts of a review: the request, the sections of the answer, and line references. This module performs no I/O; the
 * idempotency key is computed with WebCrypto.
 */

/** @typedef {import("./protocol.js").Request} Request */
/** @typedef {"improvements" | "complexity" | "bugs"} Section */

/** @type {readonly Section[]} */
export const SECTIONS = ["improvements", "complexity", "bugs"];

/**
 * Returns the request for the review of one file. Equal arguments give byte-identical requests.
 * @param {string} code @param {string} language @param {string} [name] the path of the file
 * @returns {Request}
 */
export function requestFor(code, language, name = "") {
  const prompt = { id: "code-review", variables: { code: fenced(code, language, name) } };
  return { prompt, metadata: { kind: "review", language } };
}

/**
 * Returns the idempotency key of a review, so that equal requests share one review while the server runs or keeps it.
 * @param {Request} request @param {string} model @param {string} after the id of the review that this one repeats, or ""
 * @returns {Promise<string | null>} null if the page has no WebCrypto; the review is then not shared
 */
export async function keyFor(request, model, after) {
  if (!globalThis.crypto?.subtle) return null;
  const bytes = new TextEncoder().encode(JSON.stringify([model, request, after]));
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return `review-${Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

/** Wraps code in a Markdown fence, whose first line names the file. @param {string} code @param {string} language @param {string} [name] */
export function fenced(code, language, name = "") {
  const longest = Math.max(2, ...Array.from(code.matchAll(/^ {0,3}(`{3,})/gm), (fence) => fence[1]?.length ?? 0));
  const fence = "`".repeat(longest + 1);
  const title = name.replace(/[\s\p{C}`]+/gu, " ").trim();
  return `${fence}${language}${title && ` ${title}`}\n${code}\n${fence}`;
}

/** Reverses `fenced`. A text without a fence is treated entirely as code. @param {string} text */
export function unfenced(text) {
  const found = /^(`{3,})([\w+#-]*)(?: ([^\n]*))?\n([^]*)\n\1$/.exec(text);
  return { code: found?.[4] ?? text, language: found?.[2] ?? "", name: found?.[3] ?? "" };
}

/**
 * Splits an answer into its sections and the preface before them. Headings inside code blocks are ignored.
 * @param {string} text
 * @returns {{preface: string} & Record<Section, string>}
 */
export function sectionsOf(text) {
  const sections = { preface: "", improvements: "", complexity: "", bugs: "" };
  /** @type {keyof typeof sections} */
  let current = "preface";
  let fence = "";
  for (const line of text.split(/(?<=\n)/)) {
    const mark = /^ {0,3}(`{3,}|~{3,})/.exec(line)?.[1] ?? "";
    if (fence === "") fence = mark;
    else if (mark.startsWith(fence)) fence = "";
    if (fence === "" && isHeadingToBe(line)) continue;
    const heading = fence === "" ? /^#{1,3}\s+(improvements|complexity|bugs)\b/i.exec(line)?.[1] : undefined;
    if (heading) current = /** @type {Section} */ (heading.toLowerCase());
    else sections[current] += line;
  }
  return sections;
}

/** Returns true if a line may be the incomplete heading of a section. @param {string} line */
function isHeadingToBe(line) {
  const begun = /^#{1,3}(?:\s+(\w*))?$/.exec(line);
  return begun !== null && !line.endsWith("\n") && SECTIONS.some((section) => section.startsWith((begun[1] ?? "").toLowerCase()));
}

/** Matches a line reference at the beginning of a text: L12, L12-15, line 12, lines 3 to 7. */
const LINES = /^(?:L|lines?\s)(\d{1,6})(?:\s?(?:[-–]|to)\s?L?(\d{1,6}))?(?!\w)/i;

/** Returns the line reference at the beginning of a text. @param {string} text @returns {{raw: string, first: number, last: number} | null} */
export function linesAt(text) {
  const found = LINES.exec(text);
  if (!found) return null;
  const first = Number(found[1]);
  return first > 0 ? { raw: found[0], first, last: Math.max(first, Number(found[2] ?? first)) } : null;
}

/** Returns the index at which the next line reference may begin, or undefined. @param {string} text */
export function nextLines(text) {
  const place = /(?<!\w)(?:L\d|lines?\s\d)/i.exec(text)?.index;
  return place;
}

/** Patterns that identify a language, the most reliable first. @type {readonly [string, RegExp][]} */
const SIGNS_OF = [
  ["bash", /^#!.*\b(?:ba|z|da)?sh\b|^\s*(?:fi|done|esac)$|\$\{?\w+\}?.*\|\s*\w+/m],
  ["python", /^#!.*python|^\s*(?:def \w+\(.*\).*:|from \w[\w.]* import |elif .*:|except.*:|if __name__)/m],
  ["php", /<\?php/],
  ["go", /^package \w+$|\bfunc \(?\w.*\{$|:=/m],
  ["rust", /\bfn \w+.*\{|\blet mut |impl(?:<.*>)? \w+|println!\(/],
  ["java", /\bpublic (?:static |final )*(?:class|void|int|String)\b|System\.out\./],
  ["csharp", /^using System|\bnamespace \w+|Console\.Write/m],
  ["kotlin", /\bfun \w+\(.*\).*[{=]|\bval \w+ =/],
  ["cpp", /#include <(?:iostream|vector|string|memory)>|std::|\btemplate ?</],
  ["c", /#include [<"]\w+\.h[>"]/],
  ["typescript", /\binterface \w+ \{|: (?:string|number|boolean)\b[^"]*[=;,)]|\bas const\b/],
  ["javascript", /\b(?:const|let|var) \w+ =|=>|\bfunction\b.*\{|require\(|console\.log/],
  ["ruby", /^\s*(?:def \w+[?!]?(?:\(.*\))?$|end$|puts |require ')/m],
  ["sql", /\b(?:select\b[^;]*\bfrom|insert into|create table|update \w+ set)\b/i],
  ["xml", /^\s*<(?:!doctype|html|\?xml|svg|\w+[ >])/i],
  ["css", /^[.#]?[\w-]+[^{;]*\{\s*[\w-]+\s*:/m],
  ["json", /^\s*[[{][^]*[\]}]\s*$/],
  ["yaml", /^[\w-]+:(?: |$)/m],
];

/** @type {Readonly<Record<string, string>>} */
const ENDINGS = {
  py: "python", js: "javascript", mjs: "javascript", jsx: "javascript", ts: "typescript", tsx: "typescript", sh: "bash",
  rs: "rust", go: "go", rb: "ruby", java: "java", kt: "kotlin", cs: "csharp", cpp: "cpp", cc: "cpp", hpp: "cpp", c: "c",
  h: "c", php: "php", sql: "sql", html: "xml", xml: "xml", svg: "xml", css: "css", scss: "css", json: "json", yml: "yaml",
  yaml: "yaml", toml: "ini", ini: "ini", md: "markdown", lua: "lua", swift: "swift", scala: "scala", graphql: "graphql",
};

/** Guesses the language of code; returns "" if it is unknown. @param {string} code @param {string} [file] the file name */
export function guess(code, file = "") {
  const ending = file.toLowerCase().split(".").at(-1) ?? "";
  if (Object.hasOwn(ENDINGS, ending)) return ENDINGS[ending] ?? "";
  return SIGNS_OF.find(([, sign]) => sign.test(code))?.[0] ?? "";
}
