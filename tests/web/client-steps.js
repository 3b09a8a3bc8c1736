/** Helpers for client tests: a client on a fake socket, and the server's messages. */

import { createHash } from "node:crypto";

import { HoldlineClient } from "../../web/client.js";
import { FakeClock, fakeSockets } from "./fakes.js";

export const URL_ = "ws://holdline.example/v1/responses";

/** Returns a client on a fake socket. With `random` 0, every delay has its minimum length. */
export function connect({ open = true, random = 0 } = {}) {
  const clock = new FakeClock();
  const sockets = fakeSockets();
  const client = new HoldlineClient(URL_, {
    WebSocket: sockets, now: clock.now, setTimer: clock.setTimer, clearTimer: clock.clearTimer, random: () => random,
  });
  if (open) sockets.last.welcome();
  return { client, clock, sockets };
}

/** Returns the log of an answer with the given pieces of text, as the server sends it on a lane. */
export function log(handle, id, pieces, { sha256 } = {}) {
  const text = pieces.join("");
  const on = { stream_id: handle.streamId };
  const place = { output_index: 0, content_index: 0, item_id: "msg_1" };
  const message = { id: "msg_1", type: "message", content: [{ type: "output_text", text }] };
  const trailer = {
    attempts: 1, bytes: Buffer.byteLength(text), sha256: sha256 ?? createHash("sha256").update(text).digest("hex"),
  };
  return [
    { type: "response.created", response: { id, status: "queued", model: "m" } },
    { type: "response.in_progress", response: { id, status: "in_progress", model: "m" } },
    { type: "response.output_item.added", ...place, item: { id: "msg_1", type: "message" } },
    ...pieces.map((delta) => ({ type: "response.output_text.delta", ...place, delta })),
    { type: "response.completed", response: { id, status: "completed", output: [message], holdline: trailer } },
  ].map((event, number) => ({ ...event, ...on, sequence_number: number }));
}

/** Returns an error message that refuses an answer's request, on the answer's lane. */
export const refusal = (handle, status, code, more = {}) => ({
  type: "error", status, stream_id: handle.streamId,
  error: { type: "invalid_request_error", code, message: `${code}!`, param: null, ...more },
});
