// @ts-check
/** Keeps the end of a growing conversation in view, until the reader scrolls up. Loaded with the turns. */

import { button } from "./dom.js";

/** If a reader who scrolled up returns to within this distance of the end, the view follows new text again. */
const FOLLOW_END_PX = 96;

export class EndFollower {
  /** The button that returns to the end. */
  latest;
  #log;
  #follows = true;
  /** The scroll position. */ #top = 0;
  /** The distance from the scroll position to the end in pixels. */ #left = 0;
  /** The scroll position of the end. */ #end = 0;

  /**
   * Follows the end of a scrolling element.
   * @param {HTMLElement} log the element that scrolls
   * @param {HTMLElement} content its growing content
   * @param {string} latest the text of the button
   */
  constructor(log, content, latest) {
    this.#log = log;
    this.latest = button("latest", latest, () => this.toEnd(), latest);
    this.latest.hidden = true;
    log.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    // A block gets its real height when it comes into view, and the log resizes with the window.
    const sizes = new ResizeObserver(() => this.keep());
    sizes.observe(log);
    sizes.observe(content);
  }

  /** True if the earlier parts of fast output are not laid out. */
  get rushes() {
    return this.#log.classList.contains("rushing");
  }

  /** While the reader is at the end, skips the layout of the earlier parts of fast output. @param {boolean} rushes */
  rush(rushes) {
    this.#log.classList.toggle("rushing", rushes && this.#follows);
  }

  /** Follows the end from now on. */
  toEnd() {
    this.#follows = true;
    this.keep();
  }

  /** Scrolls to the end, unless the reader has scrolled up. */
  keep() {
    if (this.#follows) {
      this.#log.scrollTop = this.#log.scrollHeight;
      this.#measure();
    }
    this.latest.hidden = this.#follows;
  }

  #scrolled() {
    const top = this.#top, left = this.#left, end = this.#end;
    this.#measure();
    // New layout moves the position too: if blocks above shrink, scroll anchoring in the browser moves it up, while a block
    // below may have grown. So a move is the reader's only if the layout is the same.
    if (this.#follows && this.#end !== end) return this.keep();
    if (this.#top < top && this.#left > 1) this.#follows = false;
    // Scroll anchoring does not change the distance to the end, so only a reader can reduce it.
    else if (this.#left < FOLLOW_END_PX && this.#left < left) this.#follows = true;
    if (!this.#follows) this.rush(false);
    this.latest.hidden = this.#follows;
  }

  #measure() {
    const { scrollHeight, scrollTop, clientHeight } = this.#log;
    this.#top = scrollTop;
    this.#end = scrollHeight - clientHeight;
    this.#left = this.#end - scrollTop;
  }
}
