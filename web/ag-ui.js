// @ts-check
/**
 * Two functions that replace `fetch` in the `HttpAgent` of AG-UI, in the npm package `@holdline/client`; see
 * `docs/frontends.md`. One reads server-sent events, the other one the messages of a WebSocket.
 *
 * If the connection is lost, the events continue after the last one that has arrived, so the agent sees one stream.
 */

import { accepted, eventsOf, request, SILENCE_MS, streamOf } from "./event-stream.js";
import { closeAdvice } from "./protocol.js";

/** The interval of a socket's `holdline:ping`. A page cannot see the pings of a server, so only the replies show that it lives. */
const PING_MS = 25_000;

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
  const resume = async (/** @type {string} */ after) =>
    accepted(await request(() => fetch(`${stream}&starting_after=${after}`, again), init.signal));
  return new Response(streamOf(bytesOf(eventsOf(first, resume, init.signal))), { headers: first.headers });
}

/** @param {AsyncGenerator<string, void>} events @returns {AsyncGenerator<Uint8Array<ArrayBuffer>, void>} */
async function* bytesOf(events) {
  const encoder = new TextEncoder();
  for await (const event of events) yield encoder.encode(`${event}\n\n`);
}

/**
 * Runs an agent on a WebSocket at the route `/v1/ag-ui`, and returns a response with the events of the run. A key or a token
 * in the header `Authorization` becomes the first message.
 * @param {string} url
 * @param {RequestInit} init its body is the input of the run in JSON
 * @returns {Promise<Response>}
 */
export async function socketFetch(url, init) {
  const input = String(init.body);
  const { threadId, runId } = JSON.parse(input);
  const token = new Headers(init.headers ?? {}).get("Authorization")?.replace(/^Bearer\s+/i, "");
  /** The response of the run, once a socket has named it. @type {string | undefined} */
  let responseId;
  const open = (/** @type {string} */ after) => {
    // The id of the run is an idempotency key, so repeated input never causes a second model call.
    const run = responseId ? JSON.stringify({ threadId, runId, responseId, startingAfter: after }) : input;
    const named = (/** @type {string} */ id) => void (responseId = id);
    return request(() => connect(url, token, run, named, init.signal), init.signal);
  };
  return new Response(streamOf(bytesOf(eventsOf(await open("-1"), open, init.signal))), { headers: EVENT_STREAM });
}

const EVENT_STREAM = { "Content-Type": "text/event-stream" };

/**
 * Opens a socket, sends a run, and returns a response whose body has the socket's messages as server-sent events. Rejects
 * with a `TypeError`, like `fetch`, if there is no connection.
 * @param {string} url @param {string | undefined} token @param {string} run @param {(responseId: string) => void} named
 * @param {AbortSignal | null | undefined} signal
 * @returns {Promise<Response>}
 */
function connect(url, token, run, named, signal) {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const socket = new WebSocket(new URL(url, globalThis.location?.href).href.replace(/^http/, "ws"));
    const encoder = new TextEncoder();
    /** @type {ReadableStreamDefaultController<Uint8Array<ArrayBuffer>>} */
    let controller;
    let over = false;
    let failed = false; // true if the last message was an error that is not in the log
    const end = () => {
      over = true;
      clearTimeout(opening);
      clearInterval(pings);
      signal?.removeEventListener("abort", abort);
      socket.close();
    };
    const abort = () => {
      end();
      controller.error(signal?.reason);
      reject(signal?.reason);
    };
    const body = new ReadableStream({ start: (given) => void (controller = given), cancel: end });
    const write = (/** @type {string} */ event) => controller.enqueue(encoder.encode(`${event}\n\n`));
    /** @type {ReturnType<typeof setInterval> | undefined} */
    let pings;
    const opening = setTimeout(() => socket.close(), SILENCE_MS);
    signal?.addEventListener("abort", abort, { once: true });
    socket.onopen = () => {
      clearTimeout(opening);
      pings = setInterval(() => socket.send('{"type":"holdline:ping"}'), PING_MS);
      if (token) socket.send(JSON.stringify({ type: "holdline:auth", token }));
      socket.send(run);
      resolve(new Response(body, { headers: EVENT_STREAM }));
    };
    socket.onmessage = ({ data }) => {
      if (over) return;
      const { type, cursor, metadata } = JSON.parse(data);
      if (type.startsWith("holdline:")) return write(`: ${type}`);
      if (type === "RUN_STARTED") named(metadata.responseId);
      failed = type === "RUN_ERROR" && cursor === undefined;
      write(cursor === undefined ? `data: ${data}` : `data: ${data}\nid: ${cursor}`);
    };
    socket.onclose = ({ code, reason }) => {
      if (over) return;
      end();
      const lost = new TypeError(`The WebSocket was closed with code ${code}. ${reason}`);
      reject(lost);
      if (code !== 1000 && closeAdvice(code, reason).comeBack) return controller.error(lost);
      if (!failed) write(code === 1000 ? ": done" : `data: ${errorOf(code, lost.message)}`);
      controller.close();
    };
  });
}

/** Returns the event for a final close code that no error has explained. @param {number} code @param {string} message */
const errorOf = (code, message) => JSON.stringify({ type: "RUN_ERROR", message, code: `websocket_${code}` });
