// @ts-check
/** A piece of code: its language, a button to copy it, and colours once it is whole. */

import { button, make } from "./dom.js";
import { load } from "./place.js";
import { COPIED_MS, copy } from "./signs.js";

/** Beyond this many characters colours would cost a frame. */
const LONGEST = 30_000;

/** @type {Readonly<Record<string, string>>} */
const ALIASES = {
  js: "javascript", mjs: "javascript", jsx: "javascript", node: "javascript", ts: "typescript", tsx: "typescript",
  py: "python", python3: "python", sh: "bash", shell: "bash", zsh: "bash", console: "bash", html: "xml", svg: "xml",
  yml: "yaml", "c++": "cpp", "c#": "csharp", cs: "csharp", rb: "ruby", rs: "rust", golang: "go", kt: "kotlin",
  md: "markdown", toml: "ini", gql: "graphql", docker: "dockerfile", make: "makefile", patch: "diff", h: "c",
};

/** The languages that there are colours for. */
export const LANGUAGES = (
  "bash c cpp csharp css diff dockerfile go graphql ini java javascript json kotlin lua makefile markdown php python " +
  "ruby rust scala sql swift typescript xml yaml"
).split(" ");

/** The language that a name means, or "" for one without colours. @param {string} name */
export function languageOf(name) {
  const known = ALIASES[name.toLowerCase()] ?? name.toLowerCase();
  return LANGUAGES.includes(known) ? known : "";
}

/**
 * @param {string} language as the answer names it
 * @param {{copy: string, copied: string, code: string}} words
 */
export function codeBlock(language, words) {
  const code = make("code", "code-text");
  const text = document.createTextNode("");
  code.append(text);
  const copying = button("code-copy", words.copy, async () => {
    await copy(code.textContent ?? "");
    copying.textContent = words.copied;
    setTimeout(() => (copying.textContent = words.copy), COPIED_MS);
  }, words.copy);
  copying.removeAttribute("aria-label"); // what it shows is its name, and "Copied" is to be heard
  const scroll = make("pre", "code", code);
  scroll.tabIndex = 0; // a keyboard scrolls it too
  scroll.setAttribute("role", "group");
  scroll.setAttribute("aria-label", `${words.code} ${language}`.trim());
  const node = make("div", "code-block", make("div", "code-head", make("span", "code-language", language), copying), scroll);
  return { node, text, close: () => colourOnceSeen(code, languageOf(language)) };
}

/** Code by its element, with the language of it. @type {WeakMap<Element, string>} */
const unseen = new WeakMap();
/** @type {IntersectionObserver | undefined} */
let view;

/** Colours are for eyes: code far up in a long answer waits until somebody goes there.
 * @param {Element} code @param {string} language
 */
function colourOnceSeen(code, language) {
  if (language === "") return;
  view ??= new IntersectionObserver((entries, observer) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      observer.unobserve(target);
      void colour(target, unseen.get(target) ?? "");
    }
  });
  unseen.set(code, language);
  view.observe(code);
}

/** Colours a piece of code, when the colours are there; until then and without them it is text.
 * @param {Element} code @param {string} language
 */
export async function colour(code, language) {
  const text = code.textContent ?? "";
  if (language === "" || text.length > LONGEST) return;
  const coloured = await highlight(text, language).catch(() => null); // off line: then without colours
  if (coloured && code.textContent === text) code.replaceChildren(coloured);
}

/** Modules of highlight.js, each asked for once. @type {Map<string, Promise<any>>} */
const parts = new Map();

/** @param {string} name */
function part(name) {
  const loaded = parts.get(name) ?? load(`vendor/highlight/${name}`);
  parts.set(name, loaded);
  return loaded;
}

/** @param {string} text @param {string} language @returns {Promise<DocumentFragment>} */
async function highlight(text, language) {
  const names = ["core.min.js", `languages/${language}.min.js`];
  const [{ default: highlighter }, grammar] = await Promise.all(names.map(part));
  highlighter.configure({ __emitter: Fragments });
  if (!highlighter.getLanguage(language)) highlighter.registerLanguage(language, grammar.default);
  return highlighter.highlight(text, { language, ignoreIllegals: true })._emitter.root;
}

/** Takes the place of highlight.js's own emitter, which makes HTML: this one makes nodes. */
class Fragments {
  root = document.createDocumentFragment();
  /** @type {Node[]} */
  open = [this.root];

  /** @param {string} text */
  addText(text) {
    this.open.at(-1)?.appendChild(document.createTextNode(text));
  }

  /** @param {string} scope */
  openNode(scope) {
    const span = document.createElement("span");
    span.className = `hl-${scope.split(".")[0]}`;
    this.open.at(-1)?.appendChild(span);
    this.open.push(span);
  }

  closeNode() {
    if (this.open.length > 1) this.open.pop();
  }

  startScope = this.openNode;
  endScope = this.closeNode;

  /** @param {Fragments} emitter */
  __addSublanguage(emitter) {
    this.open.at(-1)?.appendChild(emitter.root);
  }

  finalize() {}

  toHTML() {
    return "";
  }
}
