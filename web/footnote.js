// @ts-check
/**
 * The links between a text and its footnotes, and from a text to its sources. A fragment in an address does not lead into
 * a shadow root, so a footnote has buttons that move the focus.
 */

import { button, make, name } from "./dom.js";
import { linkTo } from "./link-node.js";
import { fill } from "./words.js";

/**
 * Returns the link for `[^label]`. The label `§1` leads to the first source.
 * @param {string} label @param {Element} answer @param {string[]} sources
 * @param {{source: string, footnote: string}} words
 */
export function footnoteLink(label, answer, sources, words) {
  const n = label.startsWith("§") ? Number(label.slice(1)) : 0;
  const url = sources[n - 1];
  if (url !== undefined) {
    const { node, body } = linkTo(url, url); // the list of sources shows the host
    body.append(`[${n}]`);
    name(node, fill(words.source, { n }));
    return make("sup", "citation", node);
  }
  const there = button("footnote-link", fill(words.footnote, { label }), () => focus(answer, "note", label), label);
  there.dataset.reference = label;
  return make("sup", "", there);
}

/** Returns the element for `[^label]: text`. @param {string} label @param {Element} answer @param {{backToText: string}} words */
export function noteBlock(label, answer, words) {
  const back = button("footnote-link", fill(words.backToText, { label }), () => focus(answer, "reference", label), label);
  const body = make("span", "note-text");
  const node = make("div", "footnote", make("sup", "", back), " ", body);
  node.dataset.note = label;
  node.tabIndex = -1;
  return { node, body };
}

/** Moves the focus to a footnote, or back to its first reference. @param {Element} answer @param {string} kind @param {string} label */
function focus(answer, kind, label) {
  const found = [...answer.querySelectorAll(`[data-${kind}]`)].find((node) => /** @type {HTMLElement} */ (node).dataset[kind] === label);
  if (found instanceof HTMLElement) found.focus();
}
