import assert from "node:assert/strict";
import { test } from "node:test";

import { HoldlineClient, OUTBOX_LIMIT, attachPage } from "../../web/client.js";
import { URL_, connect, log } from "./client-steps.js";

test("the first retry is immediate, the next are drawn, stability forgets them", () => {
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
  sockets.last.drop(); // it had not lived long enough to prove anything
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

test("a server that never says welcome is given up after ten seconds", () => {
  const { clock, sockets } = connect({ open: false });
  clock.advance(9_999);
  assert.equal(sockets.made.length, 1);
  clock.advance(1);
  assert.equal(sockets.made.length, 2);
  assert.equal(sockets.made[0].readyState, 3);
});

test("a refused upgrade is one loss, whether a close is reported or not", () => {
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

test("a missed pong: a new socket after ten seconds, at once", () => {
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

test("a line that is busy with frames is not taken for dead, but not for ever either", () => {
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

test("draining: stay for the stated time, then go elsewhere and resume", () => {
  const { client, clock, sockets } = connect();
  const handle = client.ask({ input: "hi" });
  const events = log(handle, "resp_1", ["a", "b"]);
  sockets.last.push(...events.slice(0, 4));
  sockets.last.push({ type: "holdline:draining", retry_after_ms: 2_000 });
  sockets.last.push(events[4]);
  assert.equal(handle.answer.text, "ab");
  clock.advance(1_999);
  assert.equal(client.state, "open");
  clock.advance(1);
  clock.advance(500); // this connection was too young for an immediate retry to matter
  assert.equal(sockets.made.length, 2);
  sockets.last.welcome();
  assert.equal(sockets.last.of("holdline:resume")[0].starting_after, 4);
});

test("draining, and closed before the stated time: nobody knocks earlier", () => {
  const { client, clock, sockets } = connect();
  sockets.last.push({ type: "holdline:draining", retry_after_ms: 3_000 });
  clock.advance(1_000);
  sockets.last.drop(1012, "restart");
  client.probe();
  clock.advance(1_999);
  assert.equal(sockets.made.length, 1);
  clock.advance(501);
  assert.equal(sockets.made.length, 2);
});

test("too many: the client stays away as long as the server asks", () => {
  const { clock, sockets } = connect();
  sockets.last.drop(4429, "retry_after_ms=9000");
  clock.advance(8_999);
  assert.equal(sockets.made.length, 1);
  clock.advance(1);
  assert.equal(sockets.made.length, 2);
});

test("offline: prompts wait, in order, up to the bound, and go out once", () => {
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

test("final close codes end it, and each answer learns why", async () => {
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

test("a browser that refuses the address ends it at once, without a close code", async () => {
  const platform = { WebSocket: class { constructor() { throw new Error("insecure"); } } };
  const client = new HoldlineClient(URL_, platform);
  assert.deepEqual([client.state, client.closed], ["closed", { code: null, reason: "Error: insecure" }]);
  assert.match((await client.ask({ input: "hi" }).done).error?.message, /\(Error: insecure\)/);
});

test("a hidden page does not fight for a socket; shown again it has one at once", () => {
  const { client, clock, sockets } = connect();
  client.setHidden(true);
  sockets.last.drop();
  clock.advance(3_600_000);
  assert.equal(sockets.made.length, 1);
  client.setHidden(false);
  clock.advance(0);
  assert.equal(sockets.made.length, 2);
});

test("a page that hides while a retry waits does not make it", () => {
  const { client, clock, sockets } = connect();
  sockets.last.drop();
  clock.advance(0);
  sockets.last.drop(); // the second retry waits half a second
  client.setHidden(true);
  clock.advance(60_000);
  assert.equal(sockets.made.length, 2);
  client.setHidden(false);
  clock.advance(0);
  assert.equal(sockets.made.length, 3);
});

test("a page that is shown again doubts its socket for three seconds", () => {
  const { client, clock, sockets } = connect();
  client.setHidden(true);
  client.setHidden(false);
  assert.equal(sockets.last.of("holdline:ping").length, 1);
  clock.advance(2_999);
  assert.equal(sockets.made.length, 1);
  clock.advance(1);
  assert.equal(sockets.made.length, 2);
});

test("a page that sleeps lets the socket go and takes a new one when it wakes", () => {
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

test("the life of a page reaches the client", () => {
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

test("back on line: a waiting retry is made now", () => {
  const { client, clock, sockets } = connect({ random: 0.9 });
  for (let loss = 0; loss < 6; loss++) {
    sockets.last.drop();
    clock.advance(loss === 5 ? 0 : 30_000);
  }
  const before = sockets.made.length;
  client.probe();
  assert.equal(sockets.made.length, before + 1);
});

test("a token is given to each socket before anything else", () => {
  const { client, clock, sockets } = connect();
  client.authenticate("t1");
  client.ask({ input: "hi" });
  sockets.last.drop();
  clock.advance(0);
  sockets.last.welcome();
  assert.deepEqual(sockets.last.sent.map((message) => message.type), ["holdline:auth", "response.create"]);
});

test("what the server says of its own health is passed on", () => {
  const { client, sockets } = connect();
  const received = [];
  client.addEventListener("degraded", (event) => received.push(event.detail.reason));
  sockets.last.push({ type: "holdline:degraded", reason: "redis" });
  assert.deepEqual(received, ["redis"]);
});
