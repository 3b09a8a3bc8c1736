// @ts-check
/** Calls the Responses API over HTTP as the user of a thread. */

import { ownerOf } from "./protocol.js";

const CALL_DEADLINE_MS = 15_000;

/** Sends a POST request with a body, or a GET request without one. Returns null if another user has signed in.
 * @param {import("./thread.js").Thread} thread @param {string} path after `/v1/responses/` @param {object} [body]
 */
export async function callResponse(thread, path, body) {
  const { setting, owner } = thread;
  const token = await setting.token();
  if (ownerOf(token) !== owner || owner !== thread.owner) return null;
  return fetch(`${setting.url}/${path}`, {
    method: body ? "POST" : "GET",
    headers: { ...(body && { "Content-Type": "application/json" }), ...(token && { Authorization: `Bearer ${token}` }) },
    ...(body && { body: JSON.stringify(body), keepalive: true }),
    signal: AbortSignal.timeout(CALL_DEADLINE_MS),
  });
}
