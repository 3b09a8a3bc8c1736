// @ts-check
/** A phone's keyboard covers the page without making it smaller; the panel keeps to what is seen. */

/** Less than this is a browser's bar. */
const KEYBOARD_PX = 120;

/** @param {HTMLElement} panel @param {boolean} whole whether it takes the whole screen of a phone */
export function fit(panel, whole) {
  const seen = window.visualViewport;
  const covered = whole && seen && innerHeight - seen.height > KEYBOARD_PX;
  panel.style.setProperty("--seen", covered ? `${seen.height}px` : "");
}
