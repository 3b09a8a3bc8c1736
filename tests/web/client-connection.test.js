import assert from "node:assert/strict";
import { test } from "node:test";

import { HoldlineClient, OUTBOX_LIMIT, attachPage } from "../../web/client.js";
import { URL_, connect, log } from "./client-steps.js";

test("the first retry is immediate, later delays are random, and a stable connection resets them", () => {
  const { clock, sockets } = connect({ random: 0.5 });
  clock.advance(6_000);
  sockets.last.drop();
  clock.advance(0);
  assert.equal(sockets.made.length, 2);
  sockets.last.drop();
  clock.advance(749);
  assert.equal(sockets.made.length, 2);
  clock.advance(1);
  assert.equal(sockets.made.length, 3);
  sockets.last.welcome();
  clock.advance(1_000);
  sockets.last.drop(); // a connection this short does not reset the retry delay
  clock.advance(999);
  assert.equal(sockets.made.length, 3);
  clock.advance(1);
  assert.equal(sockets.made.length, 4);
  sockets.last.welcome();
  clock.advance(5_000);
  sockets.last.drop();
  clock.advance(0);
  assert.equal(sockets.made.length, 5);
});

test("a socket without a welcome is dropped after ten seconds", () => {
  const { clock, sockets } = connect({ open: false });
  clock.advance(9_999);
  assert.equal(sockets.made.length, 1);
  clock.advance(1);
  assert.equal(sockets.made.length, 2);
  assert.equal(sockets.made[0].readyState, 3);
});

test("a refused upgrade counts as one loss, with or without a close event", () => {
  for (const close of [true, false]) {
    const { client, clock, sockets } = connect({ open: false });
    sockets.last.refuse({ close });
    clock.advance(0);
    assert.equal(sockets.made.length, 2);
    sockets.last.refuse({ close });
    clock.advance(499);
    assert.equal(sockets.made.length, 2);
    clock.advance(1);
    assert.equal(sockets.made.length, 3);
    client.close();
  }
});

test("a ping in every interval, and a pong keeps the socket", () => {
  const { client, clock, sockets } = connect();
  for (let round = 1; round <= 4; round++) {
    clock.advance(25_000);
    const pings = sockets.last.of("holdline:ping");
    assert.equal(pings.length, round);
    sockets.last.push({ type: "holdline:pong", id: pings.at(-1).id, responses: {} });
  }
  assert.equal(client.state, "open");
  assert.equal(sockets.made.length, 1);
});

test("the server's own ping interval is used", () => {
  const { clock, sockets } = connect({ open: false });
  sockets.last.welcome({ ping_interval_ms: 4_000 });
  clock.advance(4_000);
  assert.equal(sockets.last.of("holdline:ping").length, 1);
});

test("a socket is replaced after ten seconds without a pong", () => {
  const { client, clock, sockets } = connect();
  client.ask({ input: "hi" });
  clock.advance(25_000);
  clock.advance(9_999);
  assert.equal(sockets.made.length, 1);
  clock.advance(1);
  assert.equal(sockets.made.length, 2);
  sockets.last.welcome();
  assert.equal(sockets.last.of("response.create").length, 1);
});

test("other frames extend the wait for a pong within a bound", () => {
  const { clock, sockets } = connect();
  clock.advance(25_000);
  for (let second = 1; second < 30; second++) {
    clock.advance(1_000);
    sockets.last.push({ type: "response.something", sequence_number: second });
    assert.equal(sockets.made.length, 1);
  }
  clock.advance(1_000);
  assert.equal(sockets.made.length, 2);
});

test("a client leaves a draining server and resumes elsewhere, but not before the stated time", () => {
  const { client, clock, sockets } = connect();
  const handle = client.ask({ input: "hi" });
  sockets.last.push(...log(handle, "resp_1", ["a", "b"]).slice(0, 5));
  sockets.last.drop(1012, "the server is restarting; retry_after_ms=3000");
  client.probe();
  clock.advance(2_999);
  assert.equal(sockets.made.length, 1);
  clock.advance(501);
  assert.equal(sockets.made.length, 2);
  sockets.last.welcome();
  assert.equal(sockets.last.of("holdline:resume")[0].starting_after, 4);
});

test("a client switches on the extensions on each socket", () => {
  const { clock, sockets } = connect();
  sockets.last.drop();
  clock.advance(500);
  assert.deepEqual(sockets.made.map((socket) => socket.protocol), ["holdline.v1", "holdline.v1"]);
});

test("a client waits as long as an overloaded server asks", () => {
  const { clock, sockets } = connect();
  sockets.last.drop(4429, "retry_after_ms=9000");
  clock.advance(8_999);
  assert.equal(sockets.made.length, 1);
  clock.advance(1);
  assert.equal(sockets.made.length, 2);
});

test("prompts queue in order while offline, up to the bound, and are sent once", () => {
  const { client, sockets } = connect({ open: false });
  const handles = Array.from({ length: OUTBOX_LIMIT }, (_, index) => client.ask({ input: String(index) }));
  const one = client.ask({ input: "one too many" });
  assert.equal(one.answer.status, "failed");
  assert.equal(one.answer.error?.code, "outbox_full");
  assert.ok(handles.every((handle) => handle.answer.status === "sending"));

  sockets.last.welcome();
  const inputs = sockets.last.of("response.create").map((message) => message.input);
  assert.deepEqual(inputs, handles.map((_, index) => String(index)));
});

test("a final close code closes the client and fails each answer with the reason", async () => {
  for (const code of [4401, 4499, 1008]) {
    const { client, clock, sockets } = connect();
    const handle = client.ask({ input: "hi" });
    sockets.last.drop(code, "because");
    assert.equal(client.state, "closed");
    assert.deepEqual(client.closed, { code, reason: "because" });
    assert.equal((await handle.done).error?.code, "connection_closed");
    assert.equal(client.ask({ input: "again" }).answer.status, "failed");
    clock.advance(3_600_000);
    assert.equal(sockets.made.length, 1);
    assert.equal(clock.pending, 0);
  }
});

test("a URL that the browser refuses closes the client at once", async () => {
  const platform = { WebSocket: class { constructor() { throw new Error("insecure"); } } };
  const client = new HoldlineClient(URL_, platform);
  assert.deepEqual([client.state, client.closed], ["closed", { code: null, reason: "Error: insecure" }]);
  assert.match((await client.ask({ input: "hi" }).done).error?.message, /\(Error: insecure\)/);
});

test("a hidden page does not reconnect, and a page shown again reconnects at once", () => {
  const { client, clock, sockets } = connect();
  client.setHidden(true);
  sockets.last.drop();
  clock.advance(3_600_000);
  assert.equal(sockets.made.length, 1);
  client.setHidden(false);
  clock.advance(0);
  assert.equal(sockets.made.length, 2);
});

test("a pending retry is dropped when the page is hidden", () => {
  const { client, clock, sockets } = connect();
  sockets.last.drop();
  clock.advance(0);
  sockets.last.drop(); // the client waits half a second before the second retry
  client.setHidden(true);
  clock.advance(60_000);
  assert.equal(sockets.made.length, 2);
  client.setHidden(false);
  clock.advance(0);
  assert.equal(sockets.made.length, 3);
});

test("a page that is shown again probes its socket for three seconds", () => {
  const { client, clock, sockets } = connect();
  client.setHidden(true);
  client.setHidden(false);
  assert.equal(sockets.last.of("holdline:ping").length, 1);
  clock.advance(2_999);
  assert.equal(sockets.made.length, 1);
  clock.advance(1);
  assert.equal(sockets.made.length, 2);
});

test("a frozen page closes its socket and opens a new one when it resumes", () => {
  const { client, clock, sockets } = connect();
  const handle = client.ask({ input: "hi" });
  sockets.last.push(...log(handle, "resp_1", ["a"]).slice(0, 4));
  client.suspend();
  assert.equal(sockets.last.readyState, 3);
  clock.advance(3_600_000);
  assert.equal(sockets.made.length, 1);
  client.wake();
  clock.advance(0);
  sockets.last.welcome();
  assert.equal(sockets.last.of("holdline:resume")[0].starting_after, 3);
});

test("page lifecycle events reach the client", () => {
  const calls = [];
  const client = {
    probe: () => calls.push("probe"), setHidden: (hidden) => calls.push(hidden ? "hidden" : "shown"),
    suspend: () => calls.push("suspend"), wake: () => calls.push("wake"),
  };
  const document = Object.assign(new EventTarget(), { visibilityState: "visible" });
  const window = Object.assign(new EventTarget(), { document });
  const detach = attachPage(client, window);
  const tell = (target, name) => target.dispatchEvent(new Event(name));
  tell(window, "online");
  document.visibilityState = "hidden";
  tell(document, "visibilitychange");
  tell(document, "freeze");
  tell(document, "resume");
  tell(window, "pagehide");
  tell(window, "pageshow");
  detach();
  tell(window, "online");
  assert.deepEqual(calls, ["shown", "probe", "hidden", "suspend", "wake", "suspend", "wake"]);
});

test("a pending retry runs at once when the browser is back online", () => {
  const { client, clock, sockets } = connect({ random: 0.9 });
  for (let loss = 0; loss < 6; loss++) {
    sockets.last.drop();
    clock.advance(loss === 5 ? 0 : 30_000);
  }
  const before = sockets.made.length;
  client.probe();
  assert.equal(sockets.made.length, before + 1);
});

test("each socket sends the token before any other message", () => {
  const { client, clock, sockets } = connect();
  client.authenticate("t1");
  client.ask({ input: "hi" });
  sockets.last.drop();
  clock.advance(0);
  sockets.last.welcome();
  assert.deepEqual(sockets.last.sent.map((message) => message.type), ["holdline:auth", "response.create"]);
});

test("health events of the server are forwarded", () => {
  const { client, sockets } = connect();
  const received = [];
  client.addEventListener("degraded", (event) => received.push(event.detail.reason));
  sockets.last.push({ type: "holdline:degraded", reason: "redis" });
  assert.deepEqual(received, ["redis"]);
});

test("a socket that is closed with 4408 counts as a failed attempt, however long it was open", () => {
  const { clock, sockets } = connect({ random: 0.5 });
  const delays = [];
  for (let attempt = 0; attempt < 4; attempt++) {
    clock.advance(10_000); // the server waits this long for a credential
    const [made, closedAt] = [sockets.made.length, clock.time];
    sockets.last.drop(4408, "no holdline:auth message in time");
    while (sockets.made.length === made) clock.advance(1);
    delays.push(clock.time - closedAt);
    sockets.last.welcome();
  }
  assert.deepEqual(delays, [1, 750, 1_000, 1_375]);
});
