// @ts-check
/**
 * Markdown that grows, as nodes. `marked` finds the tokens; nodes are made by name and filled with text, so whatever an
 * answer holds, it can be nothing but what is built here.
 *
 * A block is final once another one has begun after it: it is frozen, never read or touched again. What is left is
 * compared token by token with what is shown, and only the difference touches the page.
 *
 * A text is parsed piece by piece, and a long one in several tasks, so that input and drawing wait for none of them.
 */

import { codeBlock } from "./code.js";
import { make } from "./dom.js";
import { typesetOnceSeen } from "./formula.js";
import { lexed } from "./lexer.js";
import { linkTo } from "./link-node.js";
import { decoded } from "./links.js";
import { childrenOf, isBlock, isShown, keyOf } from "./markdown-tree.js";

/** @typedef {import("./vendor/marked/marked.esm.js").Token} Token */

/**
 * A token that is shown: its node, the node that holds its children, and the children. `update` shows another token of
 * the same key; `close` is called once nothing will be added.
 * @typedef {{
 *   key: string, raw: string, node: Node, body: Node, children: Shown[], update?: (token: Token) => void, close?: () => void,
 * }} Shown
 */

/** @typedef {{copy: string, copied: string, code: string, formula: string, image: string, table: string, done: string, todo: string}} Words */

/** Further in, an answer is shown as it was written. */
const DEEPEST = 40;
/** Characters of a piece; it grows while it ends within its first block. */
const PIECE = 4_096;
/** A larger block is divided, except code, and a list between two items: the time to parse one grows faster than its length. */
const LARGEST_BLOCK = 16_384;
const LARGEST_LIST = 8_192;
/** All answers of a page show new pieces for so long in one task. */
const SHOWING_MS = 40;

let sliceEnd = 0;

function isSliceOver() {
  if (sliceEnd === 0) {
    sliceEnd = performance.now() + SHOWING_MS;
    setTimeout(() => (sliceEnd = 0));
  }
  return performance.now() > sliceEnd;
}
/** Higher than any panel is a text of so many lines, and a line has about so many characters. */
const NEAR_LINES = 48;
const LINE_CHARACTERS = 64;

export class Markdown {
  /** Called when all of a text is shown. */
  onshown = () => {};
  /** Where the text begins that is not frozen. */ #frozen = "";
  /** What is shown of it. @type {Shown[]} */ #live = [];
  /** Named targets of links in what is frozen. @type {{[name: string]: {href: string, title: string | null}}} */
  #targets = Object.create(null);
  #named = false;
  /** The last frozen blocks, and about how many lines they have. @type {{node: Element, lines: number}[]} */
  #near = [];
  #nearLines = 0;
  #shown = "";
  #whole = false;
  /** Of the present piece, at most. */ #size = PIECE;
  /** Shows the rest. @type {any} */ #timer = 0;

  /**
   * @param {Element} element holds the answer and nothing else
   * @param {Words} words
   * @param {{[name: string]: any}} [extensions] as `marked`'s lexer takes them, and under `make` by type what is shown
   */
  constructor(element, words, extensions) {
    this.element = element;
    this.words = words;
    this.extensions = extensions;
  }

  /**
   * Shows a text, a long one not all at once. A text that does not begin with the frozen part replaces all that is shown.
   * @param {string} written
   * @param {boolean} whole nothing will follow
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

  /** Shows the next piece, or makes it larger; returns whether all of the text is shown. */
  #showPiece() {
    const rest = this.#shown.slice(this.#frozen.length);
    const piece = pieceOf(rest, this.#size);
    const last = piece.length === rest.length;
    const whole = last && this.#whole;
    const tokens = this.#tokens(piece, whole, !last || whole);
    const growing = whole ? tokens.length : tokens.findLastIndex(isBlock);
    const large = this.#size >= (tokens[0]?.items?.length > 1 ? LARGEST_LIST : LARGEST_BLOCK) && tokens[0]?.type !== "code";
    const final = !last && growing <= 0 && large ? withoutLastItem(tokens) : tokens.slice(0, Math.max(growing, 0));
    if (!last && final.length === 0) {
      this.#size *= 2;
      return false;
    }
    this.#patch(this.element, this.#live, (last ? tokens : final).filter(isShown), 0);
    this.#freeze(final);
    if (final.length > 0) this.#size = PIECE;
    // A name may have been used long before its target was given: that is seen at the end.
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

  /** What cannot be read, such as a thousand brackets inside each other, is text.
   * @param {string} text @param {boolean} whole @param {boolean} complete its last line will not change @returns {Token[]}
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

  /** @param {Token[]} final */
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

  /** Marks as past what is further from the end than anybody sees who looks at the end. @param {Shown} entry */
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
   * Makes the last nodes of a parent those of the tokens.
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

  /** @param {Node} parent @param {Shown[]} shown @param {number} index @param {Token} token @param {number} depth */
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

  /** @param {Token} token @param {number} depth @returns {Shown} */
  #make(token, depth) {
    const key = keyOf(token);
    if (depth > DEEPEST) return { key, ...leaf(token.raw, (next) => next.raw) };
    const own = this.extensions?.make?.[token.type]?.(token);
    const made = own ?? this.#known(token);
    /** @type {Shown} */
    const shown = { key, raw: token.raw, children: [], body: made.node, ...made };
    if (!shown.update) this.#patch(shown.body, shown.children, childrenOf(token), depth + 1);
    return shown;
  }

  /** @param {Token} token @returns {Partial<Shown> & {node: Node}} */
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
        table.dir = "auto"; // its columns and a list's points begin where the script of its first letter does
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
        list.dir = "auto";
        if (token.ordered && Number(token.start) > 1) list.setAttribute("start", String(token.start));
        return { node: list };
      }
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

  /** Loading it would tell its host that, and what, somebody reads. It is offered as a link. @param {Token} token */
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

/** An answer stands below the headings of its page. @type {Readonly<Record<number, keyof HTMLElementTagNameMap>>} */
const HEADINGS = { 1: "h3", 2: "h4", 3: "h5", 4: "h6", 5: "h6", 6: "h6" };

/** The beginning of a text, whole lines or whole words where there are any. @param {string} text @param {number} size */
function pieceOf(text, size) {
  if (text.length <= size) return text;
  const piece = text.slice(0, size);
  return piece.slice(0, piece.lastIndexOf("\n") + 1 || piece.lastIndexOf(" ") + 1 || size);
}

/** A list goes on as another one with its last item. @param {Token[]} tokens @returns {Token[]} */
function withoutLastItem(tokens) {
  const list = tokens.at(-1);
  if (list?.type !== "list" || list.items.length < 2) return tokens;
  const items = list.items.slice(0, -1);
  const raw = items.map((/** @type {Token} */ item) => item.raw).join("");
  return [...tokens.slice(0, -1), { ...list, items, raw }];
}

/** Text in a node of its own, or in an element around it.
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

/** What is there already stays: a selection in it survives. @param {Text} node @param {string} text */
function setText(node, text) {
  const there = node.data;
  if (text === there) return;
  if (text.startsWith(there)) node.appendData(text.slice(there.length));
  else node.data = text;
}

/** @param {Shown} entry */
function close(entry) {
  entry.close?.();
  for (const child of entry.children) close(child);
}
