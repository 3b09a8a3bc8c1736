// @ts-check
/**
 * Markdown's tokens by `marked`, with formulas as they were written, and a single `~` as text. Pure.
 *
 * `marked` takes quadratic time for some texts. The steps that it may take are estimated beforehand: a text that would
 * take too many has fewer kinds of tokens.
 */

import { Lexer, Tokenizer } from "./vendor/marked/marked.esm.js";

/** @typedef {import("./vendor/marked/marked.esm.js").Token} Token */

/** A longer formula is read as Markdown. */
export const MAX_CHARACTERS = 2_000;
/** Steps for the inline text of one block, and for the tables and underlined headings of one call: at most about 60 ms. */
const MAX_STEPS = 3_000_000;
/** Lists and quotes inside each other. */
const MAX_LEVELS = 20;
/** Each may search the rest of its text for a counterpart. */
const DELIMITERS = /[!$&*<[\\\]_`~]/g;
/** Each character of a word may search the rest of the word for an `@`; short words take no time. */
const WORDS = /[!-~]{200,}/g;

// Each `\\.` in a formula is one unit: `\\)` is a line break and a parenthesis, not the end.
const PARENTHESES = String.raw`\\\((?:\\[^()]|[^\\\x60]){1,${MAX_CHARACTERS}}?\\\)`;
const BRACKETS = String.raw`\\\[(?:\\[^[\]]|[^\\\x60]){1,${MAX_CHARACTERS}}?\\\]`;
const DOLLARS = String.raw`\$\$(?!\$)(?:\\[^]|\$(?!\$)|[^\\$\x60]){1,${MAX_CHARACTERS}}?\$\$`;
// Pandoc's rule: no space inside, no letter or digit outside. "$5 for one or 6$" is no formula either.
const DOLLAR = String.raw`(?<![\w$\\])\$(?![\s$]|\d[^$\\]*[a-z]{2})(?:\\.|[^\\$\n\x60]){1,${MAX_CHARACTERS}}?(?<!\s)\$(?![\w$])`;
// One that has not ended yet, to the end of its line.
const OPEN = String.raw`\\\([^\n\x60]*|\\\[(?![^\]\n]*\])[^\n\x60]*|\$\$(?=[^\s$])[^\n\x60]*`;

const INLINE = new RegExp([PARENTHESES, BRACKETS, DOLLARS, DOLLAR, OPEN].join("|"), "g");
const BLOCK = new RegExp(`^ {0,3}(${BRACKETS}|${DOLLARS})[^\\S\\n]*(\\n|$)?`);
const OPEN_BLOCK = /^ {0,3}(?:\\\[|\$\$(?!\$)[^\n]*\n)/;
const BLOCK_START = /\n {0,3}(?:\\\[|\$\$(?!\$))/;
const PARAGRAPH = /^[^]*?(?=\n[^\S\n]*\n|$)/;
const MARKS = /\$|\\[([]/;

/** @param {string} raw */
const formula = (raw) => ({ type: "formula", raw, text: raw.trim() });

/** @param {string} raw */
const display = (raw) => ({ type: "display", raw, tokens: [formula(raw.trim())] });

/** @param {string} text @param {boolean} whole nothing will follow @returns {Token | undefined} */
function blockFormula(text, whole) {
  const closed = BLOCK.exec(text);
  if (closed) {
    const [raw, found = "", end] = closed;
    // `$$x$$ and more` is a line of text, as far as anybody can tell before the line has ended.
    const own = !found.startsWith("$") || found.includes("\n") || end === "\n" || (whole && raw.length === text.length);
    return own ? display(raw) : undefined;
  }
  if (!OPEN_BLOCK.test(text)) return undefined;
  // While it may still end, all that follows is part of it.
  const growing = !whole && text.length <= MAX_CHARACTERS;
  return display(growing ? text : /** @type {RegExpExecArray} */ (PARAGRAPH.exec(text))[0]);
}

/** @param {string} text @param {Token[]} before @returns {Token | undefined} */
function inlineFormula(text, before) {
  if (text[0] !== "$" && text[0] !== "\\") return undefined;
  INLINE.lastIndex = 0;
  const found = INLINE.exec(text);
  if (found?.index !== 0) return undefined;
  return /^\$(?!\$)/.test(text) && /[\w$]$/.test(before.at(-1)?.raw ?? "") ? undefined : formula(found[0]);
}

/** Two tildes strike through; one is a range, as in `1~3`. @param {string} text @param {Token[]} before */
function tilde(text, before) {
  if (text[0] !== "~" || text[1] === "~" || before.at(-1)?.raw.endsWith("~")) return undefined;
  return { type: "text", raw: "~", text: "~" };
}

/** Keeps the source of the inline text that is parsed, in which formulas are found. */
class FormulaLexer extends Lexer {
  source = "";
  /** Of the present block. */ #steps = 0;

  /** @override @param {string} text @param {Token[]} [tokens] none for the text of another token */
  inlineTokens(text, tokens) {
    this.source = text;
    this.#steps = (tokens ? 0 : this.#steps) + stepsOf(text);
    if (this.#steps <= MAX_STEPS) return super.inlineTokens(text, tokens);
    const plain = linesOf(text);
    tokens?.push(...plain);
    return plain;
  }
}

/** Steps that it may take to parse an inline text. @param {string} text */
function stepsOf(text) {
  let steps = (text.match(DELIMITERS)?.length ?? 0) * text.length;
  for (const [{ length }] of text.matchAll(WORDS)) steps += length ** 2;
  return steps;
}

/** A text without any marks, line by line. @param {string} text @returns {Token[]} */
function linesOf(text) {
  return text.split("\n").flatMap((line, index) => {
    const token = { type: "text", raw: line, text: line };
    return index === 0 ? [token] : [{ type: "br", raw: "\n" }, token];
  });
}

/** Bounds what `marked` does for a block. */
class BoundedTokenizer extends Tokenizer {
  #steps = 0;
  #levels = 0;

  /** @override @param {string} text */
  table(text) {
    return this.#isAffordable(text) ? super.table(text) : undefined;
  }

  /** @override @param {string} text */
  lheading(text) {
    return this.#isAffordable(text) ? super.lheading(text) : undefined;
  }

  /** @override @param {string} text */
  blockquote(text) {
    return this.#nested(() => super.blockquote(text));
  }

  /** @override @param {string} text */
  list(text) {
    return this.#nested(() => super.list(text));
  }

  /** Whether there are steps left to look at all lines of a block, and to fill all cells of a table. @param {string} text */
  #isAffordable(text) {
    if (this.#steps > MAX_STEPS) return false;
    const { 0: block } = /** @type {RegExpExecArray} */ (PARAGRAPH.exec(text));
    const columns = block.split("\n", 1)[0]?.split("|").length ?? 0;
    this.#steps += block.length + (columns > 1 ? columns * block.split("\n").length : 0);
    return this.#steps <= MAX_STEPS;
  }

  /** @param {() => Token | undefined} read @returns {Token | undefined} */
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

/** Hides formulas from the search for the ends of emphasis. @this {{lexer: FormulaLexer}} @param {string} masked */
function mask(masked) {
  let out = masked;
  for (const { 0: { length }, index } of this.lexer.source.matchAll(INLINE)) {
    out = out.slice(0, index) + "a".repeat(length) + out.slice(index + length);
  }
  return out;
}

/**
 * @param {string} text @param {boolean} whole nothing will follow
 * @param {{[name: string]: any}} [more] extensions of `marked`'s lexer
 * @param {{[name: string]: object}} [targets] of links, by name
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
  const hooks = marks ? { emStrongMask: mask } : null;
  const lexer = new FormulaLexer({ gfm: true, breaks: true, extensions, hooks, tokenizer: new BoundedTokenizer() });
  Object.assign(lexer.tokens.links, targets);
  return { tokens: lexer.lex(text), links: lexer.tokens.links };
}
