// @ts-check
/** The icons beside an answer, and a function that copies text to the clipboard. */

import { make } from "./dom.js";

/** The SVG paths of the icons. */
export const SIGNS = {
  copy: "M9 9h11v11H9zM15 9V4H4v11h5",
  done: "M5 12.5l4.5 4.5L19 7",
  edit: "M4 20h4L19.5 8.5l-4-4L4 16zM13 7l4 4",
  up: "M7 11v9H4v-9zM7 11l4-8c1.5 0 2.5 1 2.5 2.5V9h5l1 1.5-1.5 8L16.5 20H7",
  down: "M7 13V4H4v9zM7 13l4 8c1.5 0 2.5-1 2.5-2.5V15h5l1-1.5-1.5-8L16.5 4H7",
  attach: "M20 11l-8.5 8.5a5 5 0 0 1-7-7L13 4a3.4 3.4 0 0 1 4.8 4.8L9.5 17a1.7 1.7 0 0 1-2.4-2.4l7.6-7.6",
  image: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15.5 9.5h.01",
  file: "M6 3h8l4 4v14H6zM14 3v4h4",
  again: "M20 11a8 8 0 1 0-2.3 6.3M20 4v7h-7",
};

/** How long a button shows that text was copied, in milliseconds. */
export const COPIED_MS = 2_000;

/** Copies text to the clipboard. Browsers offer the Clipboard API only to secure origins, so there is a fallback. @param {string} text */
export async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = make("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}
