// @ts-check
/** Asks a server why it refuses the origin of this page. */

/**
 * Returns why the server refuses this origin, or null if the origin is allowed or the request fails.
 *
 * A page cannot distinguish a refused upgrade from a broken connection. The server's `/origin` endpoint is public and
 * reports whether an origin is allowed.
 * @param {URL} server
 * @returns {Promise<string | null>}
 */
export async function refusal(server) {
  try {
    const answer = await fetch(new URL("origin", server), { signal: AbortSignal.timeout(5_000) });
    const { origin, allowed, setting } = await answer.json();
    if (allowed) return null;
    return `${server.origin} does not allow ${origin}. To allow it, start the server with ${setting}=${origin}`;
  } catch {
    return null;
  }
}
