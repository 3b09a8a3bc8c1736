// @ts-check
/**
 * Renders growing Markdown as DOM nodes. `marked` finds the tokens. The nodes are created by name and filled with text, so
 * an answer cannot create any other elements.
 *
 * A block is final once the next block has begun. A final block is frozen: it is not parsed or changed again. The rest is
 * compared token by token with the nodes on the page, and only the differences are applied.
 *
 * A text is parsed in pieces, and a long text in several tasks, so that it does not block input and drawing.
 */

import { codeBlock } from "./code.js";
import { make } from "./dom.js";
import { footnoteLink, noteBlock } from "./footnote.js";
import { typesetOnceSeen } from "./formula.js";
import { lexed } from "./lexer.js";
import { linkTo } from "./link-node.js";
import { decoded } from "./links.js";
import { childrenOf, isBlock, isShown, keyOf } from "./markdown-tree.js";

/** @typedef {import("./vendor/marked/marked.esm.js").Token} Token */

/**
 * A token on the page: its node, the node that contains its children, and the children. `update` shows another token with
 * the same key; `close` is called once the token is complete.
 * @typedef {{
 *   key: string, raw: string, node: Node, body: Node, children: Shown[], update?: (token: Token) => void, close?: () => void,
 * }} Shown
 */

/** @typedef {{copy: string, copied: string, code: string, formula: string, image: string, table: string, done: string, todo: string, source: string, footnote: string, backToText: string}} Words */

/** The maximum depth of the tree; more deeply nested text is shown as its source. */
const DEEPEST = 40;
/** The initial size of a piece in characters. The size is doubled if the piece ends within its first block. */
const PIECE = 4_096;
/**
 * The size in characters at which blocks are divided, because parse time grows faster than length. Code blocks are
 * never divided. Lists are divided between items, also if they have very many items, because a block is laid out at
 * once.
 */
const LARGEST_BLOCK = 16_384;
const LARGEST_LIST = 8_192;
const MOST_ITEMS = 512;
/** The time per task for showing new pieces, in milliseconds; all answers on a page share it. */
const SHOWING_MS = 20;

let sliceEnd = 0;

function isSliceOver() {
  if (sliceEnd === 0) {
    sliceEnd = performance.now() + SHOWING_MS;
    setTimeout(() => (sliceEnd = 0));
  }
  return performance.now() > sliceEnd;
}
/** A number of lines that is higher than any panel, and an estimated number of characters per line. */
const NEAR_LINES = 48;
const LINE_CHARACTERS = 64;

export class Markdown {
  /** Called when the whole text is shown. */
  onshown = () => {};
  /** The addresses to which `[^§1]` and so on lead. @type {string[]} */
  sources = [];
  /** The source of the frozen blocks. */ #frozen = "";
  /** The tokens on the page that are not frozen. @type {Shown[]} */ #live = [];
  /** The named link targets in the frozen text. @type {{[name: string]: {href: string, title: string | null}}} */
  #targets = Object.create(null);
  #named = false;
  /** The last frozen blocks and their approximate numbers of lines. @type {{node: Element, lines: number}[]} */
  #near = [];
  #nearLines = 0;
  #shown = "";
  #whole = false;
  /** The maximum size of the current piece. */ #size = PIECE;
  /** The timer of the next task. @type {any} */ #timer = 0;

  /**
   * Creates a renderer for one answer.
   * @param {Element} element the element that contains only the answer
   * @param {Words} words
   * @param {{[name: string]: any}} [extensions] extensions of `marked`'s lexer; `make` has a function per type that creates its node
   */
  constructor(element, words, extensions) {
    this.element = element;
    this.words = words;
    this.extensions = extensions;
  }

  /**
   * Shows a text; a long one in several tasks. A text that does not begin with the frozen part replaces the content.
   * @param {string} written the source so far
   * @param {boolean} whole whether the text is complete
   */
  show(written, whole) {
    const text = written.includes("\r") ? written.replace(/\r\n?/g, "\n") : written;
    if (text === this.#shown && whole === this.#whole) return;
    if (!text.startsWith(this.#frozen)) {
      this.#clear();
      this.#targets = Object.create(null);
    }
    this.#shown = text;
    this.#whole = whole;
    this.#advance();
  }

  #advance() {
    clearTimeout(this.#timer);
    let done = false;
    while (!done && !isSliceOver()) done = this.#showPiece();
    if (done) this.onshown();
    else this.#timer = setTimeout(() => this.#advance());
  }

  /**
   * Shows the next piece of the text. A piece that ends within its first block is not shown; instead, the next call
   * tries a piece of twice the size. Returns true if the whole text is shown.
   */
  #showPiece() {
    const rest = this.#shown.slice(this.#frozen.length);
    const piece = pieceOf(rest, this.#size);
    const last = piece.length === rest.length;
    const whole = last && this.#whole;
    const tokens = this.#tokens(piece, whole, !last || whole);
    const growing = whole ? tokens.length : tokens.findLastIndex(isBlock);
    const items = tokens[0]?.items?.length ?? 0;
    const large = items > MOST_ITEMS || (this.#size >= (items > 1 ? LARGEST_LIST : LARGEST_BLOCK) && tokens[0]?.type !== "code");
    const final = !last && growing <= 0 && large ? withoutLastItem(tokens) : tokens.slice(0, Math.max(growing, 0));
    if (!last && final.length === 0) {
      this.#size *= 2;
      return false;
    }
    this.#patch(this.element, this.#live, (last ? tokens : final).filter(isShown), 0);
    this.#freeze(final);
    if (final.length > 0) this.#size = PIECE;
    // Text may use a link name before its definition, so a text with definitions is rendered again at the end.
    const again = whole && this.#named;
    if (again) this.#clear();
    return last && !again;
  }

  #clear() {
    this.element.replaceChildren();
    this.#live = [];
    this.#near = [];
    this.#nearLines = 0;
    this.#frozen = "";
    this.#named = false;
    this.#size = PIECE;
  }

  /** Tokenizes a piece. A piece on which `marked` fails, such as a thousand nested brackets, becomes plain text.
   * @param {string} text @param {boolean} whole @param {boolean} complete whether the last line is final @returns {Token[]}
   */
  #tokens(text, whole, complete) {
    try {
      const { tokens, links } = lexed(text, whole, this.extensions, this.#targets);
      this.#named ||= Object.keys(links).length > Object.keys(this.#targets).length;
      if (complete) Object.assign(this.#targets, links);
      return tokens;
    } catch {
      return [{ type: "html", raw: text, text }];
    }
  }

  /** Freezes the first blocks, which are not parsed or changed again. @param {Token[]} final */
  #freeze(final) {
    let end = this.#frozen.length;
    for (const token of final) {
      end += token.raw.length;
      if (token.type === "def") this.#targets[token.tag] ??= { href: token.href, title: token.title };
    }
    for (const entry of this.#live.splice(0, final.filter(isShown).length)) {
      close(entry);
      this.#leave(entry);
    }
    this.#frozen = this.#shown.slice(0, end);
  }

  /**
   * Adds a frozen block. Marks earlier blocks as past if a reader at the end of the answer cannot see them.
   * @param {Shown} entry
   */
  #leave({ node, raw }) {
    if (!(node instanceof Element)) return;
    const lines = raw.split("\n").length + raw.length / LINE_CHARACTERS;
    this.#near.push({ node, lines });
    this.#nearLines += lines;
    while (this.#near[0] && this.#nearLines - this.#near[0].lines > NEAR_LINES) {
      const left = this.#near.shift();
      left?.node.classList.add("past");
      this.#nearLines -= left?.lines ?? 0;
    }
  }

  /**
   * Changes the nodes of a parent so that they match the tokens.
   * @param {Node} parent @param {Shown[]} shown @param {Token[]} tokens @param {number} depth
   */
  #patch(parent, shown, tokens, depth) {
    for (const [index, token] of tokens.entries()) {
      const there = shown[index];
      if (there === undefined) {
        const made = this.#make(token, depth);
        shown.push(made);
        parent.appendChild(made.node);
      } else if (there.raw !== token.raw || there.key !== keyOf(token)) this.#change(parent, shown, index, token, depth);
    }
    for (const { node } of shown.splice(tokens.length)) parent.removeChild(node);
  }

  /** Replaces the node of a changed token, or updates it if its kind is the same.
   * @param {Node} parent @param {Shown[]} shown @param {number} index @param {Token} token @param {number} depth
   */
  #change(parent, shown, index, token, depth) {
    const there = /** @type {Shown} */ (shown[index]);
    if (there.key !== keyOf(token)) {
      const made = this.#make(token, depth);
      parent.replaceChild(made.node, there.node);
      shown[index] = made;
      return;
    }
    there.raw = token.raw;
    if (there.update) there.update(token);
    else this.#patch(there.body, there.children, childrenOf(token), depth + 1);
  }

  /** Creates the node of a token and of the tokens in it. Below the maximum depth, the source is shown as text.
   * @param {Token} token @param {number} depth @returns {Shown}
   */
  #make(token, depth) {
    const key = keyOf(token);
    if (depth > DEEPEST) return { key, ...leaf(token.raw, (next) => next.raw) };
    const own = this.extensions?.make?.[token.type]?.(token);
    const made = own ?? this.#known(token);
    /** @type {Shown} */
    const shown = { key, raw: token.raw, children: [], body: made.node, ...made };
    if (!shown.update) this.#patch(shown.body, shown.children, childrenOf(token), depth + 1);
    // Columns and bullets begin on the side where the script of the first letter begins. `dir` is set last, because
    // each insertion makes the browser search for that letter again, which takes quadratic time for empty items.
    if (token.type === "list" || token.type === "table") /** @type {HTMLElement} */ (shown.body).dir = "auto";
    return shown;
  }

  /** Creates the node of a token of a type that Markdown defines.
   * @param {Token} token @returns {Partial<Shown> & {node: Node}}
   */
  #known(token) {
    switch (token.type) {
      case "code": {
        const block = codeBlock(token.lang?.split(/\s/)[0] ?? "", this.words);
        const update = (/** @type {Token} */ next) => setText(block.text, next.text);
        update(token);
        return { node: block.node, update, close: () => void block.close() };
      }
      case "link":
        return linkTo(token.href, token.text);
      case "image":
        return this.#image(token);
      case "table": {
        const table = make("table");
        const scroll = make("div", "table", table);
        scroll.tabIndex = 0;
        scroll.setAttribute("role", "group");
        scroll.setAttribute("aria-label", this.words.table);
        return { node: scroll, body: table };
      }
      case "cell": {
        const cell = make(token.header ? "th" : "td");
        if (token.header) cell.scope = "col";
        if (token.align) cell.style.textAlign = token.align;
        return { node: cell };
      }
      case "checkbox": {
        const box = make("span", "checkbox", token.checked ? "☑ " : "☐ ");
        box.setAttribute("role", "img");
        box.setAttribute("aria-label", token.checked ? this.words.done : this.words.todo);
        return { node: box, update: () => {} };
      }
      case "list": {
        const list = make(token.ordered ? "ol" : "ul");
        if (token.ordered && Number(token.start) > 1) list.setAttribute("start", String(token.start));
        return { node: list };
      }
      case "footnote":
        return { node: footnoteLink(token.label, this.element, this.sources, this.words), update: () => {} };
      case "note":
        return noteBlock(token.label, this.element, this.words);
      case "formula": {
        const code = make("code");
        const close = () => typesetOnceSeen(code, this.words.formula);
        return { ...leaf(token.text, (grown) => grown.text, code), close };
      }
      case "codespan":
        return leaf(token.text, (next) => next.text, make("code"));
      case "escape":
        return leaf(token.text, (next) => next.text);
      case "text":
        if (!token.tokens) return leaf(decoded(token.text), (next) => decoded(next.text));
    }
    const name = NAMES[token.type] ?? (token.type === "heading" ? HEADINGS[token.depth] : undefined);
    return name ? { node: make(name) } : leaf(token.raw, (next) => next.raw);
  }

  /** Shows an image as a link, because loading it would tell its host who reads which answer. @param {Token} token */
  #image(token) {
    const text = this.words.image + (token.text ? `: ${token.text}` : "");
    const { node, body = node } = linkTo(token.href, "");
    body.appendChild(document.createTextNode(decoded(text)));
    return { node, update: () => {} };
  }
}

/** @type {Readonly<Record<string, keyof HTMLElementTagNameMap>>} */
const NAMES = {
  paragraph: "p", display: "p", text: "span", blockquote: "blockquote", list_item: "li", strong: "strong", em: "em", del: "del",
  br: "br", hr: "hr", row: "tr",
};

/** The headings of an answer, which rank below the headings of the page. @type {Readonly<Record<number, keyof HTMLElementTagNameMap>>} */
const HEADINGS = { 1: "h3", 2: "h4", 3: "h5", 4: "h6", 5: "h6", 6: "h6" };

/** Returns the beginning of a text, cut after a line or a word if possible. @param {string} text @param {number} size */
function pieceOf(text, size) {
  if (text.length <= size) return text;
  const piece = text.slice(0, size);
  return piece.slice(0, piece.lastIndexOf("\n") + 1 || piece.lastIndexOf(" ") + 1 || size);
}

/** Splits a list in two: the last item will start a second list, and all other items stay in the first one. @param {Token[]} tokens @returns {Token[]} */
function withoutLastItem(tokens) {
  const list = tokens.at(-1);
  if (list?.type !== "list" || list.items.length < 2) return tokens;
  const items = list.items.slice(0, -1);
  const raw = items.map((/** @type {Token} */ item) => item.raw).join("");
  return [...tokens.slice(0, -1), { ...list, items, raw }];
}

/** Makes a text node, optionally inside an element.
 * @param {string} text @param {(token: Token) => string} read @param {Element} [around]
 */
function leaf(text, read, around) {
  const node = document.createTextNode(text);
  around?.append(node);
  return {
    raw: text, node: around ?? node, body: node, children: [],
    update: (/** @type {Token} */ token) => setText(node, read(token)),
  };
}

/** Changes the text of a node. Text that only grows is appended, so that selections survive.
 * @param {Text} node @param {string} text
 */
function setText(node, text) {
  const there = node.data;
  if (text === there) return;
  if (text.startsWith(there)) node.appendData(text.slice(there.length));
  else node.data = text;
}

/** Closes a shown token and its children. @param {Shown} entry */
function close(entry) {
  entry.close?.();
  for (const child of entry.children) close(child);
}
