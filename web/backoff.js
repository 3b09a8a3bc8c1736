// @ts-check
/**
 * How long to wait before the next try. Pure.
 *
 * The first retry is immediate, because most losses are one broken line and the server is fine. From the second on the
 * whole delay is drawn by lot (full jitter), so that ten thousand clients of a restarted server do not return in step.
 */

export const SHORTEST_MS = 500;
export const LONGEST_MS = 20_000;

/** The range grows slowly: a server that restarts is back within seconds, and so are its clients. */
const FIRST_CEILING_MS = 1_000;
const GROWTH = 1.5;

/** A connection that lived shorter than this did not prove that the server is well: the tries go on counting. */
export const STABLE_MS = 5_000;

/** However long a server asks for, nobody waits longer than this. */
export const LONGEST_STATED_MS = 300_000;

/**
 * Milliseconds before a try.
 * @param {number} tries tries since the last stable connection: 0 for the first
 * @param {number} random in [0, 1)
 * @param {number} [retryAfterMs] what the server asked for; never undercut, and spread a little past it
 */
export function delay(tries, random, retryAfterMs = 0) {
  const ceiling = Math.min(LONGEST_MS, FIRST_CEILING_MS * GROWTH ** Math.min(tries - 1, 20));
  const drawn = tries === 0 ? 0 : SHORTEST_MS + random * (ceiling - SHORTEST_MS);
  const stated = Math.min(Math.max(retryAfterMs, 0), LONGEST_STATED_MS);
  return stated === 0 ? drawn : Math.max(drawn, stated + random * SHORTEST_MS);
}

/**
 * The number of tries that a lost connection leaves behind: none if it had proved itself.
 * @param {number} tries
 * @param {number} livedMs how long it was open; 0 if it never was
 */
export function triesAfterLoss(tries, livedMs) {
  return livedMs >= STABLE_MS ? 0 : tries;
}
