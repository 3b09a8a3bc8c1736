// @ts-check
/** Puts the numbers of sources into the text of an answer. This module performs no I/O. */

/** A position in a text, in UTF-16 units, and the number of a source, from 1 on. @typedef {[number, number]} Mark */

/** The maximum number of marks in an answer. */
export const MAX_MARKS = 200;

/** Returns the position in UTF-16 units of a position in characters, as providers count. @param {string} text @param {number} index */
export function unitsOf(text, index) {
  if (!/[\ud800-\udbff]/.test(text)) return Math.min(index, text.length);
  return [...text].slice(0, index).join("").length;
}

/**
 * Returns a text with a footnote such as `[^§1]` at each mark. A mark in code is left out, because code is shown as it is
 * written.
 * @param {string} text @param {Mark[]} marks
 */
export function cited(text, marks) {
  let out = "", from = 0;
  for (const [position, source] of [...marks].sort(([a], [b]) => a - b)) {
    if (isInCode(text.slice(0, position))) continue;
    out += `${text.slice(from, position)}[^§${source}]`;
    from = position;
  }
  return out + text.slice(from);
}

/** Returns true if the end of a text is in a code block or between backticks. @param {string} before */
function isInCode(before) {
  if ((before.match(/^ {0,3}(?:```|~~~)/gm)?.length ?? 0) % 2 === 1) return true;
  return ((before.slice(before.lastIndexOf("\n\n") + 1).match(/`+/g)?.length ?? 0)) % 2 === 1;
}
