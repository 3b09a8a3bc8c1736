import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { socketFetch } from "../../web/ag-ui.js";
import { eventsOf, GIVE_UP_MS, RequestError } from "../../web/event-stream.js";

const body = JSON.stringify({ threadId: "t", runId: "r" });

/** A `WebSocket` that the test opens, feeds and closes. */
class FakeSocket {
  /** @type {FakeSocket[]} */
  static opened = [];
  /** @type {string[]} */
  sent = [];
  onopen = () => {};
  onmessage = (/** @type {{data: string}} */ _) => {};
  onclose = (/** @type {{code: number, reason: string}} */ _) => {};
  closed = false;

  constructor(/** @type {string} */ url) {
    this.url = url;
    FakeSocket.opened.push(this);
    queueMicrotask(() => this.onopen());
  }

  send(/** @type {string} */ data) {
    this.sent.push(data);
  }

  close() {
    this.closed = true;
  }

  /** @param {object} message */
  receive(message) {
    this.onmessage({ data: JSON.stringify(message) });
  }
}

/** Waits until the client has opened the socket with this number. @param {number} number @returns {Promise<FakeSocket>} */
async function socketNumber(number) {
  for (;;) {
    const socket = FakeSocket.opened[number];
    if (socket && socket.sent.length > 0) return socket;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Starts a run with a fake socket. @param {RequestInit} [init] */
async function started(init) {
  FakeSocket.opened = [];
  globalThis.WebSocket = /** @type {any} */ (FakeSocket);
  const response = await socketFetch("https://host.example/v1/ag-ui", { body, ...init });
  return { response, socket: await socketNumber(0) };
}

test("a stream without a sign of its answer fails after two minutes", async () => {
  let now = 0;
  const clock = mock.method(Date, "now", () => now);
  const resume = async () => {
    now += GIVE_UP_MS;
    return new Response("");
  };
  await assert.rejects(eventsOf(new Response(""), resume, null).next(), TypeError);
  clock.mock.restore();
});

test("a stream is resumed once a full server has room", async () => {
  const refused = [429, 429];
  const resume = async (/** @type {string} */ after) => {
    const status = refused.pop();
    if (status) throw new RequestError(status, "socket_limit_exceeded", "Full.");
    return new Response(`id: 1:ab12cd34\ndata: ${after}\n\ndata: [DONE]\n\n`);
  };
  const events = [];
  for await (const event of eventsOf(new Response("id: 0:ab12cd34\ndata: a\n\n"), resume, null)) events.push(event);
  assert.deepEqual(events, ["id: 0:ab12cd34\ndata: a", "id: 1:ab12cd34\ndata: 0:ab12cd34", "data: [DONE]"]);
  const denied = async () => Promise.reject(new RequestError(403, "missing_scope", "No."));
  await assert.rejects(eventsOf(new Response(""), denied, null).next(), { status: 403 });
});

test("a token becomes the first message, and a run continues after its last event", async () => {
  const { response, socket } = await started({ headers: { Authorization: "Bearer key" } });
  assert.equal(socket.url, "wss://host.example/v1/ag-ui");
  assert.deepEqual(socket.sent, ['{"type":"holdline:auth","token":"key"}', body]);
  const text = response.text();
  socket.receive({ type: "RUN_STARTED", metadata: { responseId: "resp_1" }, sequence: 0, cursor: "0:ab12cd34" });
  socket.receive({ type: "TEXT_MESSAGE_START" });
  socket.onclose({ code: 1006, reason: "" });
  const second = await socketNumber(1);
  const run = { threadId: "t", runId: "r", responseId: "resp_1", startingAfter: "0:ab12cd34" };
  assert.deepEqual(JSON.parse(second.sent[1] ?? ""), run);
  second.receive({ type: "TEXT_MESSAGE_START" });
  second.receive({ type: "RUN_FINISHED", sequence: 1, cursor: "1:ab12cd34" });
  second.onclose({ code: 1000, reason: "" });
  assert.equal((await text).match(/TEXT_MESSAGE_START/g)?.length, 1);
});

test("a final close code is an error of the run", async () => {
  const { response, socket } = await started();
  socket.onclose({ code: 1009, reason: "too big" });
  assert.match(await response.text(), /"type":"RUN_ERROR".*"code":"websocket_1009"/);
});

test("a refusal of the server is shown as it is, and only once", async () => {
  const { response, socket } = await started();
  socket.receive({ type: "RUN_ERROR", message: "No.", code: "invalid_value" });
  socket.onclose({ code: 1000, reason: "invalid_value" });
  assert.equal(await response.text(), 'data: {"type":"RUN_ERROR","message":"No.","code":"invalid_value"}\n\n');
  assert.equal(FakeSocket.opened.length, 1);
});

test("an aborted run closes its socket", async () => {
  const abort = new AbortController();
  const { response, socket } = await started({ signal: abort.signal });
  const text = response.text();
  abort.abort();
  await assert.rejects(text, { name: "AbortError" });
  assert.ok(socket.closed);
});
