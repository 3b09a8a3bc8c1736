// @ts-check
/** Fits the panel into the visible part of the page, because a phone's keyboard covers the page without resizing it. */

/** The minimum height of a keyboard; a smaller covered part is a browser's toolbar. */
const KEYBOARD_PX = 120;

/** Sets the visible height of the panel. @param {HTMLElement} panel @param {boolean} whole whether it fills a phone's screen */
export function fit(panel, whole) {
  const seen = window.visualViewport;
  const covered = whole && seen && innerHeight - seen.height > KEYBOARD_PX;
  panel.style.setProperty("--seen", covered ? `${seen.height}px` : "");
}
