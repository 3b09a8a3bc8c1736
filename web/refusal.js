// @ts-check
/** Asks a server why it refuses the origin of this page, and reports the answer on the console. */

/**
 * Returns why the server refuses this origin, or null if the origin is allowed or the request fails.
 *
 * A page cannot distinguish a refused upgrade from a broken connection. The server's `/origin` endpoint is public and
 * reports whether an origin is allowed.
 * @param {URL} server
 * @returns {Promise<string | null>}
 */
export async function refusal(server) {
  if (server.origin === location.origin) return null;
  try {
    const answer = await fetch(new URL("origin", server), { signal: AbortSignal.timeout(5_000) });
    const { origin, allowed, setting } = await answer.json();
    if (allowed) return null;
    const reason = `${server.origin} does not allow ${origin}. To allow it, start the server with ${setting}=${origin}`;
    console.error(`Holdline: ${reason}`);
    return reason;
  } catch {
    return null;
  }
}
