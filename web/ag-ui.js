// @ts-check
/**
 * A `fetch` for the `HttpAgent` of AG-UI, in the npm package `@holdline/client`; see `docs/frontends.md`.
 *
 * If the connection is lost, the events continue after the last one that has arrived, so the agent sees one stream.
 */

import { accepted, eventsOf, request, streamOf } from "./event-stream.js";

/**
 * Sends the input of a run to the route `/v1/ag-ui`, and returns the response with the events of the run.
 * @param {string} url
 * @param {RequestInit} init its body is the input of the run in JSON
 * @returns {Promise<Response>}
 */
export async function resumingFetch(url, init) {
  const { threadId, runId } = JSON.parse(String(init.body));
  // The id of the run is an idempotency key, so a repeated request never causes a second model call.
  const first = await request(() => fetch(url, init), init.signal);
  const id = first.headers.get("X-Response-Id");
  if (!first.ok || !id) return first;
  const stream = `${url}/${id}/stream?${new URLSearchParams({ thread_id: threadId, run_id: runId })}`;
  const again = { headers: init.headers ?? {}, signal: init.signal ?? null };
  const resume = async (/** @type {number} */ after) =>
    accepted(await request(() => fetch(`${stream}&starting_after=${after}`, again), init.signal));
  return new Response(streamOf(bytesOf(eventsOf(first, resume, init.signal))), { headers: first.headers });
}

/** @param {AsyncGenerator<string, void>} events @returns {AsyncGenerator<Uint8Array<ArrayBuffer>, void>} */
async function* bytesOf(events) {
  const encoder = new TextEncoder();
  for await (const event of events) yield encoder.encode(`${event}\n\n`);
}
