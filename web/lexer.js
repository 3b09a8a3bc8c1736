// @ts-check
/**
 * Tokenizes Markdown with `marked`. Formulas become tokens of their own, and a single `~` stays text. This module
 * performs no I/O.
 *
 * `marked` takes quadratic time for some texts. The number of steps is therefore estimated first. If the estimate is
 * too high, some kinds of tokens are disabled and their text stays plain.
 */

import { Lexer, Tokenizer } from "./vendor/marked/marked.esm.js";

/** @typedef {import("./vendor/marked/marked.esm.js").Token} Token */

/** The longest formula in characters; a longer one is parsed as Markdown. */
export const MAX_CHARACTERS = 2_000;
/**
 * The maximum number of parsing steps, which take about 60 ms. It applies to the inline text of each block, and to all
 * tables and underlined headings of one call together.
 */
const MAX_STEPS = 3_000_000;
/** The maximum nesting depth of lists and quotes. */
const MAX_LEVELS = 20;
/** Each of these characters can make `marked` scan the rest of the text, for example for a closing delimiter. */
const DELIMITERS = /[!$&*<[\\\]_`~]/g;
/** Matches long words: at each character of a word, `marked` may scan the rest of the word for an `@`. */
const WORDS = /[!-~]{200,}/g;

// Each `\\.` in a formula is one unit: `\\)` is a line break and a parenthesis, not the end.
const PARENTHESES = String.raw`\\\((?:\\[^()]|[^\\\x60]){1,${MAX_CHARACTERS}}?\\\)`;
const BRACKETS = String.raw`\\\[(?:\\[^[\]]|[^\\\x60]){1,${MAX_CHARACTERS}}?\\\]`;
const DOLLARS = String.raw`\$\$(?!\$)(?:\\[^]|\$(?!\$)|[^\\$\x60]){1,${MAX_CHARACTERS}}?\$\$`;
// Pandoc's rule: no space just inside the dollars, no letter or digit just outside. "$5 for one or 6$" is not a formula either.
const DOLLAR = String.raw`(?<![\w$\\])\$(?![\s$]|\d[^$\\]*[a-z]{2})(?:\\.|[^\\$\n\x60]){1,${MAX_CHARACTERS}}?(?<!\s)\$(?![\w$])`;
// An unfinished formula extends to the end of its line.
const OPEN = String.raw`\\\([^\n\x60]*|\\\[(?![^\]\n]*\])[^\n\x60]*|\$\$(?=[^\s$])[^\n\x60]*`;

const INLINE = new RegExp([PARENTHESES, BRACKETS, DOLLARS, DOLLAR, OPEN].join("|"), "g");
const BLOCK = new RegExp(`^ {0,3}(${BRACKETS}|${DOLLARS})[^\\S\\n]*(\\n|$)?`);
const OPEN_BLOCK = /^ {0,3}(?:\\\[|\$\$(?!\$)[^\n]*\n)/;
const BLOCK_START = /\n {0,3}(?:\\\[|\$\$(?!\$))/;
const PARAGRAPH = /^[^]*?(?=\n[^\S\n]*\n|$)/;
const MARKS = /\$|\\[([]/;

const LABEL = String.raw`\[\^([^\]\s]{1,32})\]`;
const FOOTNOTE = new RegExp(`^${LABEL}(?!:)`);
const NOTE = new RegExp(`^ {0,3}${LABEL}:[^\\S\\n]*`);
const NOTE_START = new RegExp(`\\n {0,3}${LABEL}:`);

/** Returns the token of a formula within a line. @param {string} raw */
const formula = (raw) => ({ type: "formula", raw, text: raw.trim() });

/** Returns the token of a display formula. @param {string} raw */
const display = (raw) => ({ type: "display", raw, tokens: [formula(raw.trim())] });

/** Reads a display formula at the start of a text.
 * @param {string} text @param {boolean} whole whether the text is complete @returns {Token | undefined}
 */
function blockFormula(text, whole) {
  const closed = BLOCK.exec(text);
  if (closed) {
    const [raw, found = "", end] = closed;
    // `$$x$$ and more` is a line of text, so `$$x$$` is a display formula only once its line has ended.
    const own = !found.startsWith("$") || found.includes("\n") || end === "\n" || (whole && raw.length === text.length);
    return own ? display(raw) : undefined;
  }
  if (!OPEN_BLOCK.test(text)) return undefined;
  // While the closing delimiter may still arrive, all following text belongs to the formula.
  const growing = !whole && text.length <= MAX_CHARACTERS;
  return display(growing ? text : /** @type {RegExpExecArray} */ (PARAGRAPH.exec(text))[0]);
}

/** Reads a formula at the start of a text. A dollar sign after a word character begins no formula.
 * @param {string} text @param {Token[]} before @returns {Token | undefined}
 */
function inlineFormula(text, before) {
  if (text[0] !== "$" && text[0] !== "\\") return undefined;
  INLINE.lastIndex = 0;
  const found = INLINE.exec(text);
  if (found?.index !== 0) return undefined;
  return /^\$(?!\$)/.test(text) && /[\w$]$/.test(before.at(-1)?.raw ?? "") ? undefined : formula(found[0]);
}

/** Reads a reference to a footnote. @param {string} text */
function footnote(text) {
  const found = FOOTNOTE.exec(text);
  return found ? { type: "footnote", raw: found[0], label: found[1] } : undefined;
}

/** Reads the text of a footnote, up to a blank line or the next footnote. @this {{lexer: Lexer}} @param {string} text */
function note(text) {
  const found = NOTE.exec(text);
  if (!found) return undefined;
  const paragraph = /** @type {RegExpExecArray} */ (PARAGRAPH.exec(text))[0];
  const begin = found[0].length;
  const next = paragraph.slice(begin).search(NOTE_START);
  const end = next < 0 ? paragraph.length : begin + next;
  const raw = text.slice(0, text[end] === "\n" ? end + 1 : end);
  /** @type {Token[]} */
  const tokens = [];
  this.lexer.inline(text.slice(begin, end), tokens);
  return { type: "note", raw, label: found[1], tokens };
}

/** Reads a single tilde as text, because it marks a range, as in `1~3`. Two tildes strike text through. @param {string} text @param {Token[]} before */
function tilde(text, before) {
  if (text[0] !== "~" || text[1] === "~" || before.at(-1)?.raw.endsWith("~")) return undefined;
  return { type: "text", raw: "~", text: "~" };
}

/**
 * A lexer that limits the parsing steps for inline text. It keeps this text, so that `mask` can find the formulas in
 * it.
 */
class FormulaLexer extends Lexer {
  source = "";
  /** The steps for the current block. */ #steps = 0;

  /** Reads inline text, or returns it as plain text if its parsing would take too many steps.
   * @override @param {string} text @param {Token[]} [tokens] absent for text inside another token
   */
  inlineTokens(text, tokens) {
    this.source = text;
    this.#steps = (tokens ? 0 : this.#steps) + stepsOf(text);
    if (this.#steps <= MAX_STEPS) return super.inlineTokens(text, tokens);
    const plain = linesOf(text);
    tokens?.push(...plain);
    return plain;
  }
}

/** Estimates the steps for parsing an inline text. @param {string} text */
function stepsOf(text) {
  let steps = (text.match(DELIMITERS)?.length ?? 0) * text.length;
  for (const [{ length }] of text.matchAll(WORDS)) steps += length ** 2;
  return steps;
}

/** Returns a text as plain lines, without inline formatting. @param {string} text @returns {Token[]} */
function linesOf(text) {
  return text.split("\n").flatMap((line, index) => {
    const token = { type: "text", raw: line, text: line };
    return index === 0 ? [token] : [{ type: "br", raw: "\n" }, token];
  });
}

/** A tokenizer that limits the work of `marked` on blocks. */
class BoundedTokenizer extends Tokenizer {
  #steps = 0;
  #levels = 0;

  /** Reads a table, unless its parsing would take too many steps. @override @param {string} text */
  table(text) {
    return this.#isAffordable(text) ? super.table(text) : undefined;
  }

  /** Reads a heading that is underlined, unless its parsing would take too many steps. @override @param {string} text */
  lheading(text) {
    return this.#isAffordable(text) ? super.lheading(text) : undefined;
  }

  /** Reads a quotation, up to a maximum depth of nested blocks. @override @param {string} text */
  blockquote(text) {
    return this.#nested(() => super.blockquote(text));
  }

  /** Reads a list, up to a maximum depth of nested blocks. @override @param {string} text */
  list(text) {
    return this.#nested(() => super.list(text));
  }

  /** Returns true if enough steps are left to scan a block and to fill a table's cells. @param {string} text */
  #isAffordable(text) {
    if (this.#steps > MAX_STEPS) return false;
    const { 0: block } = /** @type {RegExpExecArray} */ (PARAGRAPH.exec(text));
    const columns = block.split("\n", 1)[0]?.split("|").length ?? 0;
    this.#steps += block.length + (columns > 1 ? columns * block.split("\n").length : 0);
    return this.#steps <= MAX_STEPS;
  }

  /** Limits how deeply lists and quotes are nested. @param {() => Token | undefined} read @returns {Token | undefined} */
  #nested(read) {
    if (this.#levels === MAX_LEVELS) return undefined;
    this.#levels += 1;
    try {
      return read();
    } finally {
      this.#levels -= 1;
    }
  }
}

/** Masks formulas, so that `marked` does not find the end of emphasis inside them. @this {{lexer: FormulaLexer}} @param {string} masked */
function mask(masked) {
  let out = masked;
  for (const { 0: { length }, index } of this.lexer.source.matchAll(INLINE)) {
    out = out.slice(0, index) + "a".repeat(length) + out.slice(index + length);
  }
  return out;
}

/**
 * Tokenizes a text.
 * @param {string} text @param {boolean} whole whether the text is complete
 * @param {{[name: string]: any}} [more] further extensions for the lexer of `marked`
 * @param {{[name: string]: object}} [targets] known link targets by name
 */
export function lexed(text, whole, more = {}, targets = {}) {
  const marks = MARKS.test(text);
  /** @type {{[name: string]: any}} */
  const extensions = { ...more, childTokens: {}, inline: [tilde, ...(more.inline ?? [])] };
  if (marks) {
    extensions.inline.unshift(inlineFormula);
    extensions.block = [(/** @type {string} */ rest) => blockFormula(rest, whole)];
    extensions.startBlock = [(/** @type {string} */ rest) => rest.search(BLOCK_START)];
    extensions.startInline = [...(more.startInline ?? []), (/** @type {string} */ rest) => rest.search(INLINE)];
  }
  if (text.includes("[^")) {
    extensions.inline.unshift(footnote);
    extensions.block = [note, ...(extensions.block ?? [])];
    extensions.startBlock = [(/** @type {string} */ rest) => rest.search(NOTE_START), ...(extensions.startBlock ?? [])];
  }
  const hooks = marks ? { emStrongMask: mask } : null;
  const lexer = new FormulaLexer({ gfm: true, breaks: true, extensions, hooks, tokenizer: new BoundedTokenizer() });
  Object.assign(lexer.tokens.links, targets);
  return { tokens: lexer.lex(text), links: lexer.tokens.links };
}
