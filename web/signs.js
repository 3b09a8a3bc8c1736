// @ts-check
/** Beside an answer: what its signs look like, and what copying does. */

import { make } from "./dom.js";

/** What an icon shows. */
export const SIGNS = {
  copy: "M9 9h11v11H9zM15 9V4H4v11h5",
  done: "M5 12.5l4.5 4.5L19 7",
  edit: "M4 20h4L19.5 8.5l-4-4L4 16zM13 7l4 4",
  again: "M20 11a8 8 0 1 0-2.3 6.3M20 4v7h-7",
};

/** How long it is shown that something was copied. */
export const COPIED_MS = 2_000;

/** Puts a text on the clipboard; browsers keep the modern way for secure origins. @param {string} text */
export async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = make("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}
