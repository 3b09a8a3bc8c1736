// @ts-check
/**
 * Computes the delay before the next connection attempt. This module performs no I/O.
 *
 * The first retry is immediate, because most losses affect one connection and not the server. From the second retry on,
 * the delay is fully random (full jitter), so that the clients of a restarted server do not reconnect all at once.
 */

export const SHORTEST_MS = 500;
export const LONGEST_MS = 20_000;

/** The range of the delay grows slowly, because a restarting server is back within seconds. */
const FIRST_CEILING_MS = 1_000;
const GROWTH = 1.5;

/** A connection that lasted less than this does not reset the number of tries. */
export const STABLE_MS = 5_000;

/** The longest delay that a server can request. */
export const LONGEST_STATED_MS = 300_000;

/**
 * Returns the delay before an attempt, in milliseconds.
 * @param {number} tries tries since the last stable connection: 0 for the first
 * @param {number} random in [0, 1)
 * @param {number} [retryAfterMs] the minimum delay requested by the server; a little jitter is added
 */
export function delay(tries, random, retryAfterMs = 0) {
  const ceiling = Math.min(LONGEST_MS, FIRST_CEILING_MS * GROWTH ** Math.min(tries - 1, 20));
  const drawn = tries === 0 ? 0 : SHORTEST_MS + random * (ceiling - SHORTEST_MS);
  const stated = Math.min(Math.max(retryAfterMs, 0), LONGEST_STATED_MS);
  return stated === 0 ? drawn : Math.max(drawn, stated + random * SHORTEST_MS);
}

/**
 * Returns the number of tries to count after a lost connection: 0 if the connection was stable.
 * @param {number} tries
 * @param {number} livedMs how long it was open; 0 if it never was
 */
export function triesAfterLoss(tries, livedMs) {
  return livedMs >= STABLE_MS ? 0 : tries;
}
