// @ts-check
/** What a server says of a site that it does not let in. */

/**
 * Why the server does not let this site in, or null if it does, or cannot be asked.
 *
 * A refused upgrade looks to a page like a broken line; the server tells the difference at `/origin`, to anyone.
 * @param {URL} server
 * @returns {Promise<string | null>}
 */
export async function refusal(server) {
  try {
    const answer = await fetch(new URL("origin", server), { signal: AbortSignal.timeout(5_000) });
    const { origin, allowed, setting } = await answer.json();
    if (allowed) return null;
    return `${server.origin} does not let ${origin} in. To allow it, start that server with ${setting}=${origin}`;
  } catch {
    return null;
  }
}
