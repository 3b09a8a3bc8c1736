// @ts-check
/** Shows a formula as its source until it is complete, in view, and typeset as MathML. */

import { make } from "./dom.js";
import { MAX_CHARACTERS } from "./lexer.js";
import { load } from "./place.js";

/** The maximum time per frame for typesetting formulas, so that even a thousand formulas do not block the page. */
const SLICE_MS = 8;
/** The maximum number of attempts to load the typesetter. If all attempts fail, formulas are shown as their source. */
const MAX_LOADS = 3;

const CLOSED = /^(?:\\\(([^]*)\\\)|\\\[([^]*)\\\]|\$\$([^]*)\$\$|\$(?!\$)([^]*)\$)$/;

/**
 * Returns a formula's TeX and whether it is a display formula, or null if it is too long or incomplete.
 * @param {string} written
 */
export function texOf(written) {
  if (written.length > MAX_CHARACTERS + 4) return null; // the maximum length, plus `$$` on both sides
  const [, parentheses, brackets, dollars, dollar] = CLOSED.exec(written) ?? [];
  const tex = parentheses ?? brackets ?? dollars ?? dollar;
  return tex === undefined ? null : { tex, display: brackets !== undefined || dollars !== undefined };
}

/** The accessible name for each formula's scrolling container. @type {WeakMap<Element, string>} */
const names = new WeakMap();
/** @type {IntersectionObserver | undefined} */
let sight;

/** Typesets a formula once it scrolls into view, because formulas far up in a long answer may never be seen.
 * @param {Element} code contains the source of the formula @param {string} name the accessible name if it scrolls
 */
export function typesetOnceSeen(code, name) {
  if (texOf(code.textContent ?? "") === null) return;
  const margins = { rootMargin: "50%", scrollMargin: "50%" };
  sight ??= new IntersectionObserver((entries, observer) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      observer.unobserve(target);
      waiting.push(target);
    }
    void typesetWaiting();
  }, margins);
  names.set(code, name);
  sight.observe(code);
}

/** The formulas in view that are not typeset yet. @type {Element[]} */
const waiting = [];
let typesetting = false;

async function typesetWaiting() {
  if (typesetting || waiting.length === 0) return;
  typesetting = true;
  const typeset = await typesetter();
  while (waiting.length > 0) {
    const until = performance.now() + SLICE_MS;
    /** @type {Map<Element, string>} */
    const scrolling = new Map();
    do {
      const code = /** @type {Element} */ (waiting.shift());
      const scroll = typeset && code.isConnected && replace(code, typeset);
      if (scroll) scrolling.set(scroll, names.get(code) ?? "");
    } while (waiting.length > 0 && performance.now() < until);
    for (const scroll of scrolling.keys()) scroll.classList.add("formulas");
    for (const [scroll, name] of scrolling) reach(scroll, name);
    await new Promise(requestAnimationFrame);
  }
  typesetting = false;
}

/** @typedef {(tex: string, display: boolean) => Element} Typeset */

/** @type {Promise<Typeset | null> | undefined} */
let loading;
let loads = 0;

function typesetter() {
  loading ??= load("typeset.js").then(({ typeset }) => typeset, () => {
    loads += 1;
    if (loads < MAX_LOADS) loading = undefined;
    return null;
  });
  return loading;
}

/** Replaces a formula's source with MathML; a formula that cannot be typeset keeps its source.
 * @param {Element} code @param {Typeset} typeset
 * @returns {Element | null} the element that scrolls if the formula is wider than the answer
 */
function replace(code, typeset) {
  const written = code.textContent ?? "";
  const formula = texOf(written);
  if (formula === null) return null;
  let math;
  try {
    math = typeset(formula.tex, formula.display);
  } catch {
    return null;
  }
  math.setAttribute("data-written", written);
  copyAsWritten(code.getRootNode());
  code.replaceWith(math);
  return math.closest("p, ul, ol, h3, h4, h5, h6");
}

/** Makes a scrolling element reachable by keyboard. @param {Element} scroll @param {string} name */
function reach(scroll, name) {
  if (scroll.scrollWidth <= scroll.clientWidth || scroll.matches("ul, ol")) return;
  scroll.setAttribute("tabindex", "0");
  if (!scroll.matches("p")) return;
  scroll.setAttribute("role", "group");
  scroll.setAttribute("aria-label", name);
}

/** Returns the text of a node, with formulas as their source. @param {Element} node */
export function textAsWritten(node) {
  return node.querySelector("math") ? written(/** @type {Element} */ (node.cloneNode(true))).textContent ?? "" : node.textContent ?? "";
}

/** Replaces the MathML in a copied tree with the sources. @template {Element | DocumentFragment} T @param {T} copied @returns {T} */
function written(copied) {
  for (const math of copied.querySelectorAll("math")) math.replaceWith(math.getAttribute("data-written") ?? "");
  return copied;
}

/** @type {WeakSet<Node>} */
const roots = new WeakSet();

/** When a selection inside the root is copied, puts the sources of its formulas on the clipboard. @param {Node} root */
function copyAsWritten(root) {
  if (roots.has(root)) return;
  roots.add(root);
  root.addEventListener("copy", (event) => {
    const { clipboardData, target } = /** @type {ClipboardEvent} */ (event);
    if (!clipboardData || target instanceof HTMLTextAreaElement) return;
    const selected = selectedIn(root)?.cloneContents();
    if (!selected?.querySelector("math")) return;
    for (const past of selected.querySelectorAll(".past")) past.classList.remove("past"); // `innerText` omits blocks whose layout is skipped
    const place = make("div", "unseen", written(selected));
    (root instanceof ShadowRoot ? root : document.body).append(place);
    clipboardData.setData("text/plain", place.innerText);
    place.remove();
    event.preventDefault();
  });
}

/** Returns the selected range, extended to whole formulas. @param {Node} root @returns {Range | null} */
function selectedIn(root) {
  const selection = /** @type {any} */ (getSelection());
  if (!selection || selection.rangeCount === 0) return null;
  const shadowRoots = root instanceof ShadowRoot ? [root] : [];
  const found = selection.getComposedRanges?.({ shadowRoots })[0] ?? selection.getRangeAt(0);
  const range = new Range();
  range.setStart(found.startContainer, found.startOffset);
  range.setEnd(found.endContainer, found.endOffset);
  const mathAt = (/** @type {Node} */ node) => (node instanceof Element ? node : node.parentElement)?.closest("math");
  const [first, last] = [mathAt(range.startContainer), mathAt(range.endContainer)];
  if (first) range.setStartBefore(first);
  if (last) range.setEndAfter(last);
  return range;
}
