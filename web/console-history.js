// @ts-check
/** Keeps the last fifteen minutes of a few numbers, as the page has seen them. This module performs no I/O. */

export const STEP_MS = 5_000;
export const STEPS = 180;

/** @typedef {{waiting: number, running: number, started: number}} Sample `started` counts attempts, and only grows */

export class History {
  /** The last sample of each step, oldest first; null for a step without one. @type {(Sample | null)[]} */
  #steps = [];
  #last = 0;

  /** Adds a sample. @param {number} now milliseconds of a clock that never goes back @param {Sample} sample */
  add(now, sample) {
    const step = Math.floor(now / STEP_MS);
    if (this.#steps.length === 0) this.#last = step - 1;
    const missed = Math.min(step - this.#last, STEPS);
    for (let made = 0; made < missed; made += 1) this.#steps.push(null);
    this.#last = step;
    this.#steps[this.#steps.length - 1] = sample;
    this.#steps.splice(0, this.#steps.length - STEPS);
  }

  /** The values of one number, oldest first. @param {"waiting" | "running"} name @returns {(number | null)[]} */
  of(name) {
    return this.#steps.map((sample) => sample?.[name] ?? null);
  }

  /** The number of attempts that started per minute, over the last minute before each step. @returns {(number | null)[]} */
  get perMinute() {
    const window = 60_000 / STEP_MS;
    return this.#steps.map((sample, index) => {
      if (sample === null) return null;
      const first = this.#steps.findIndex((other, at) => other !== null && at >= index - window && at < index);
      const before = this.#steps[first];
      if (!before || before.started > sample.started) return null;
      return ((sample.started - before.started) * window) / (index - first);
    });
  }
}
