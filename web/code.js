// @ts-check
/** A code block: its language, a button that copies it, and syntax highlighting once it is complete. */

import { button, make } from "./dom.js";
import { load } from "./place.js";
import { COPIED_MS, copy } from "./signs.js";

/** The longest code that is highlighted, in characters. Longer code would delay a frame. */
const LONGEST = 30_000;

/** @type {Readonly<Record<string, string>>} */
const ALIASES = {
  js: "javascript", mjs: "javascript", jsx: "javascript", node: "javascript", ts: "typescript", tsx: "typescript",
  py: "python", python3: "python", sh: "bash", shell: "bash", zsh: "bash", console: "bash", html: "xml", svg: "xml",
  yml: "yaml", "c++": "cpp", "c#": "csharp", cs: "csharp", rb: "ruby", rs: "rust", golang: "go", kt: "kotlin",
  md: "markdown", toml: "ini", gql: "graphql", docker: "dockerfile", make: "makefile", patch: "diff", h: "c",
};

/** The languages that can be highlighted. */
export const LANGUAGES = (
  "bash c cpp csharp css diff dockerfile go graphql ini java javascript json kotlin lua makefile markdown php python " +
  "ruby rust scala sql swift typescript xml yaml"
).split(" ");

/** Returns the language for a name, or "" if it cannot be highlighted. @param {string} name */
export function languageOf(name) {
  const known = ALIASES[name.toLowerCase()] ?? name.toLowerCase();
  return LANGUAGES.includes(known) ? known : "";
}

/**
 * Makes an empty code block.
 * @param {string} language the name in the answer
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
  copying.removeAttribute("aria-label"); // the text is the accessible name, so that screen readers announce "Copied"
  const scroll = make("pre", "code", code);
  scroll.tabIndex = 0; // makes the code scrollable by keyboard
  scroll.setAttribute("role", "group");
  scroll.setAttribute("aria-label", `${words.code} ${language}`.trim());
  const node = make("div", "code-block", make("div", "code-head", make("span", "code-language", language), copying), scroll);
  return { node, text, close: () => colourOnceSeen(code, languageOf(language)) };
}

/** The language of each code element that has not been highlighted. @type {WeakMap<Element, string>} */
const unseen = new WeakMap();
/** @type {IntersectionObserver | undefined} */
let view;

/** Highlights code once it scrolls into view, because code far up in a long answer may never be seen.
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

/** Highlights code once the highlighter has loaded. Until then, or if loading fails, the code stays plain.
 * @param {Element} code @param {string} language
 */
export async function colour(code, language) {
  const text = code.textContent ?? "";
  if (language === "" || text.length > LONGEST) return;
  const coloured = await highlight(text, language).catch(() => null); // loading failed, for example offline
  if (coloured && code.textContent === text) code.replaceChildren(coloured);
}

/** The modules of highlight.js; each is loaded once. @type {Map<string, Promise<any>>} */
const parts = new Map();

/** Loads a module of highlight.js, once. @param {string} name */
function part(name) {
  const loaded = parts.get(name) ?? load(`vendor/highlight/${name}`);
  parts.set(name, loaded);
  return loaded;
}

/** Returns the text as nodes with highlighted syntax. Rejects if a module cannot be loaded.
 * @param {string} text @param {string} language @returns {Promise<DocumentFragment>}
 */
async function highlight(text, language) {
  const names = ["core.min.js", `languages/${language}.min.js`];
  const [{ default: highlighter }, grammar] = await Promise.all(names.map(part));
  highlighter.configure({ __emitter: Fragments });
  if (!highlighter.getLanguage(language)) highlighter.registerLanguage(language, grammar.default);
  return highlighter.highlight(text, { language, ignoreIllegals: true })._emitter.root;
}

/** Replaces the emitter of highlight.js: it creates DOM nodes instead of HTML. */
class Fragments {
  root = document.createDocumentFragment();
  /** @type {Node[]} */
  open = [this.root];

  /** Adds text to the innermost open element. @param {string} text */
  addText(text) {
    this.open.at(-1)?.appendChild(document.createTextNode(text));
  }

  /** Opens an element with the CSS class of a scope. @param {string} scope */
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

  /** Adds the nodes of text in another language. @param {Fragments} emitter */
  __addSublanguage(emitter) {
    this.open.at(-1)?.appendChild(emitter.root);
  }

  finalize() {}

  toHTML() {
    return "";
  }
}
