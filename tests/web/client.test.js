import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";

import { HoldlineClient, OUTBOX_LIMIT, attachPage } from "../../web/client.js";
import { FakeClock, fakeSockets } from "./fakes.js";

const URL_ = "ws://holdline.example/v1/responses";

/** A client on a fake socket; `random` 0 makes every delay the shortest. */
function connect({ open = true, random = 0 } = {}) {
  const clock = new FakeClock();
  const sockets = fakeSockets();
  const client = new HoldlineClient(URL_, {
    WebSocket: sockets, now: clock.now, setTimer: clock.setTimer, clearTimer: clock.clearTimer, random: () => random,
  });
  if (open) sockets.last.welcome();
  return { client, clock, sockets };
}

/** The log of an answer of some pieces, as the server sends it on a lane. */
function log(handle, id, pieces, { sha256 } = {}) {
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

const refusal = (handle, status, code, more = {}) => ({
  type: "error", status, stream_id: handle.streamId,
  error: { type: "invalid_request_error", code, message: `${code}!`, param: null, ...more },
});

test("an answer arrives, verified, and everything is released", async () => {
  const { client, clock, sockets } = connect();
  assert.equal(client.state, "open");
  const handle = client.ask({ input: "hi", model: "m" });
  const [request] = sockets.last.of("response.create");
  assert.equal(request.input, "hi");
  assert.match(request.stream_id, /^[A-Za-z0-9_.-]{1,256}$/);
  assert.equal(request.idempotency_key, handle.idempotencyKey);

  sockets.last.push(...log(handle, "resp_1", ["Hello, ", "wörld"]));
  const answer = await handle.done;
  assert.equal(answer.text, "Hello, wörld");
  assert.equal(answer.status, "completed");
  assert.equal(handle.verified, true);

  client.close();
  assert.equal(client.state, "closed");
  assert.equal(clock.pending, 0);
});

test("a socket lost before created: the same request goes out again with the same key", async () => {
  const { client, clock, sockets } = connect();
  const handle = client.ask({ input: "hi", previous_response_id: "resp_0" });
  const [first] = sockets.last.of("response.create");
  sockets.last.drop();
  assert.equal(client.state, "reconnecting");
  clock.advance(0);
  sockets.last.welcome();
  assert.equal(sockets.made.length, 2);
  assert.deepEqual(sockets.last.sent, [first]);

  sockets.last.push(...log(handle, "resp_1", ["once"]));
  assert.equal((await handle.done).text, "once");
});

test("a socket lost in mid-answer: a resume after the last event, and no second request", async () => {
  const { client, clock, sockets } = connect();
  const handle = client.ask({ input: "hi" });
  const events = log(handle, "resp_1", ["a", "b", "c"]);
  sockets.last.push(...events.slice(0, 4));
  sockets.last.drop();
  clock.advance(0);
  sockets.last.welcome();
  assert.deepEqual(sockets.last.sent, [
    { type: "holdline:resume", response_id: "resp_1", starting_after: 3, item_id: "msg_1", stream_id: handle.streamId },
  ]);

  sockets.last.push(...events.slice(2)); // more than was asked for does no harm
  assert.equal((await handle.done).text, "abc");
});

test("whatever the event at which the socket is lost, the answer is whole and once", async () => {
  for (let cut = 0; cut <= 8; cut++) {
    const { client, clock, sockets } = connect();
    const handle = client.ask({ input: "hi" });
    const events = log(handle, "resp_1", ["a", "b", "c", "d"]);
    for (const event of events.slice(0, cut)) {
      sockets.last.push(event);
      sockets.last.drop();
      clock.advance(30_000);
      sockets.last.welcome();
    }
    sockets.last.push(...events.slice(cut));
    assert.equal((await handle.done).text, "abcd", `cut at ${cut}`);
    assert.equal(sockets.made.flatMap((socket) => socket.of("response.create")).length, 1);
    client.close();
  }
});

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

test("a pong reveals that the last event was lost", async () => {
  const { client, clock, sockets } = connect();
  const handle = client.ask({ input: "hi" });
  const events = log(handle, "resp_1", ["a", "b"]);
  sockets.last.push(...events.slice(0, -1));
  clock.advance(25_000);
  const [{ id }] = sockets.last.of("holdline:ping");
  sockets.last.push({ type: "holdline:pong", id, responses: { resp_1: 5 } });
  assert.deepEqual(sockets.last.of("holdline:resume").map((message) => message.starting_after), [4]);
  sockets.last.push(events.at(-1));
  assert.equal((await handle.done).text, "ab");
});

test("a pong that agrees asks for nothing; one that does not know the response does", () => {
  const { client, clock, sockets } = connect();
  const handle = client.ask({ input: "hi" });
  sockets.last.push(...log(handle, "resp_1", ["a"]).slice(0, 4));
  clock.advance(25_000);
  sockets.last.push({ type: "holdline:pong", id: sockets.last.of("holdline:ping")[0].id, responses: { resp_1: 3 } });
  assert.equal(sockets.last.of("holdline:resume").length, 0);
  clock.advance(25_000);
  sockets.last.push({ type: "holdline:pong", id: sockets.last.of("holdline:ping")[1].id, responses: {} });
  assert.equal(sockets.last.of("holdline:resume").length, 1);
});

test("a gap is asked for once and filled", async () => {
  const { client, sockets } = connect();
  const handle = client.ask({ input: "hi" });
  const events = log(handle, "resp_1", ["a", "b", "c"]);
  sockets.last.push(...events.slice(0, 3), ...events.slice(5));
  assert.deepEqual(sockets.last.of("holdline:resume").map((message) => message.starting_after), [2]);
  sockets.last.push(...events.slice(3));
  assert.equal((await handle.done).text, "abc");
});

test("a server that follows already says so, and nothing is taken amiss", async () => {
  const { client, clock, sockets } = connect();
  const handle = client.ask({ input: "hi" });
  const events = log(handle, "resp_1", ["a", "b"]);
  sockets.last.push(...events.slice(0, 4));
  clock.advance(25_000);
  const pong = () => ({ type: "holdline:pong", id: sockets.last.of("holdline:ping").at(-1).id, responses: { resp_1: 5 } });
  sockets.last.push(pong(), refusal(handle, 409, "already_followed"));
  assert.equal(handle.answer.status, "in_progress");
  assert.equal(client.state, "open");

  clock.advance(25_000); // a whole ping later it is still not here: another socket will bring it
  sockets.last.push(pong());
  assert.equal(client.state, "reconnecting");
  clock.advance(0);
  sockets.last.welcome();
  sockets.last.push(...events.slice(4));
  assert.equal((await handle.done).text, "ab");
});

test("a gap that this socket will not fill is filled on another", async () => {
  const { client, clock, sockets } = connect();
  const handle = client.ask({ input: "hi" });
  const events = log(handle, "resp_1", ["a", "b", "c"]);
  sockets.last.push(...events.slice(0, 3), events[4]);
  sockets.last.push(refusal(handle, 409, "already_followed"));
  assert.equal(client.state, "reconnecting");
  clock.advance(0);
  sockets.last.welcome();
  assert.deepEqual(sockets.last.of("holdline:resume").map((message) => message.starting_after), [2]);
  sockets.last.push(...events.slice(3));
  assert.equal((await handle.done).text, "abc");
});

test("a prompt that is too long fails here and does not cost the socket", async () => {
  const { client, sockets } = connect({ open: false });
  sockets.last.welcome({ limits: { message_bytes: 1_000 } });
  const handle = client.ask({ input: "ü".repeat(500) });
  assert.equal((await handle.done).error?.code, "too_large");
  assert.deepEqual(sockets.last.sent, []);
});

test("an accepted answer outlasts a long trouble of the server", async () => {
  const { client, clock, sockets } = connect();
  const handle = client.ask({ input: "hi" });
  const events = log(handle, "resp_1", ["a"]);
  sockets.last.push(events[0]);
  for (let again = 0; again < 50; again++) {
    sockets.last.push(refusal(handle, 503, "service_unavailable"));
    clock.advance(1_000);
    const asked = sockets.last.of("holdline:ping").at(-1);
    if (asked) sockets.last.push({ type: "holdline:pong", id: asked.id, responses: {} });
  }
  assert.equal(handle.busy, true);
  sockets.last.push(...events.slice(1));
  assert.equal((await handle.done).text, "a");
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

test("a prompt that waits can be withdrawn and then is never sent", async () => {
  const { client, sockets } = connect({ open: false });
  const handle = client.ask({ input: "never mind" });
  handle.stop();
  assert.equal((await handle.done).status, "cancelled");
  sockets.last.welcome();
  assert.deepEqual(sockets.last.sent, []);
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

test("an error fails its lane alone", async () => {
  const { client, sockets } = connect();
  const [bad, good] = [client.ask({ input: "bad" }), client.ask({ input: "good" })];
  sockets.last.push(refusal(bad, 400, "invalid_value", { param: "input" }));
  assert.deepEqual((await bad.done).error, {
    code: "invalid_value", message: "invalid_value!", type: "invalid_request_error", param: "input", status: 400,
  });
  sockets.last.push(...log(good, "resp_2", ["fine"]));
  assert.equal((await good.done).text, "fine");
  assert.equal(client.state, "open");
});

test("an error without an answer is an event of the client", () => {
  const { client, sockets } = connect();
  const received = [];
  client.addEventListener("error", (event) => received.push(event.detail.error.code));
  sockets.last.push({ type: "error", status: 400, error: { code: "bad_message", message: "?" } });
  assert.deepEqual(received, ["bad_message"]);
});

test("a refusal about the moment is tried again with the same key, a bounded number of times", async () => {
  const { client, clock, sockets } = connect();
  const handle = client.ask({ input: "hi" });
  sockets.last.push(refusal(handle, 503, "redis_unavailable", { headers: { "Retry-After": "2" } }));
  assert.equal(handle.busy, true);
  assert.equal(handle.answer.status, "sending");
  clock.advance(2_000);
  assert.equal(new Set(sockets.last.of("response.create").map((message) => message.idempotency_key)).size, 1);
  assert.equal(sockets.last.of("response.create").length, 2);
  for (let again = 0; again < 6; again++) {
    sockets.last.push(refusal(handle, 503, "redis_unavailable"));
    clock.advance(1_000);
  }
  assert.equal((await handle.done).error?.code, "redis_unavailable");
  assert.equal(sockets.last.of("response.create").length, 7);
});

test("a request that nobody answers is sent again, then given up", async () => {
  const { client, clock, sockets } = connect();
  const handle = client.ask({ input: "hi" });
  for (let second = 0; second < 90; second++) {
    clock.advance(1_000);
    const asked = sockets.last.of("holdline:ping").at(-1);
    if (asked) sockets.last.push({ type: "holdline:pong", id: asked.id, responses: {} });
  }
  assert.equal((await handle.done).error?.code, "not_accepted");
  assert.equal(sockets.last.of("response.create").length, 3);
  assert.equal(new Set(sockets.last.of("response.create").map((message) => message.idempotency_key)).size, 1);
});

test("a request is not sent again when the server may have forgotten its key", async () => {
  const { client, clock, sockets } = connect();
  const handle = client.ask({ input: "hi" });
  client.setHidden(true);
  sockets.last.drop();
  clock.advance(31 * 60_000);
  assert.equal((await handle.done).error?.code, "outcome_unknown");
  client.setHidden(false);
  clock.advance(0);
  sockets.last.welcome();
  assert.deepEqual(sockets.last.sent, []);
});

test("stop is a cancel, and the terminal event confirms it", async () => {
  const { client, clock, sockets } = connect();
  const handle = client.ask({ input: "hi" });
  const events = log(handle, "resp_1", ["a", "b"]);
  sockets.last.push(...events.slice(0, 4));
  handle.stop();
  handle.stop();
  assert.deepEqual(sockets.last.of("response.cancel"), [{ type: "response.cancel", response_id: "resp_1" }]);
  assert.equal(handle.stopping, true);
  assert.equal(handle.answer.status, "in_progress");

  sockets.last.drop(); // the cancel may not have arrived: it is sent again
  clock.advance(0);
  sockets.last.welcome();
  assert.deepEqual(sockets.last.sent.map((message) => message.type), ["holdline:resume", "response.cancel"]);
  const output = [{ id: "msg_1", type: "message", content: [{ type: "output_text", text: "a" }] }];
  sockets.last.push({
    type: "response.incomplete", sequence_number: 4, stream_id: handle.streamId,
    response: { id: "resp_1", status: "cancelled", output },
  });
  assert.equal((await handle.done).status, "cancelled");
  assert.equal(handle.answer.text, "a");
});

test("stop before the server has named the response: the cancel follows the name", () => {
  const { client, sockets } = connect();
  const handle = client.ask({ input: "hi" });
  handle.stop();
  assert.equal(sockets.last.of("response.cancel").length, 0);
  sockets.last.push(log(handle, "resp_1", ["a"])[0]);
  assert.equal(sockets.last.of("response.cancel").length, 1);
});

test("a stop that comes too late changes nothing", async () => {
  const { client, sockets } = connect();
  const handle = client.ask({ input: "hi" });
  const events = log(handle, "resp_1", ["a"]);
  sockets.last.push(...events.slice(0, 4));
  handle.stop();
  sockets.last.push(refusal(handle, 409, "already_ended"), events.at(-1));
  assert.equal((await handle.done).status, "completed");
});

test("a response is followed from its beginning, on a lane of its own", async () => {
  const { client, sockets } = connect();
  const handle = client.follow("resp_9");
  assert.deepEqual(sockets.last.sent, [
    { type: "holdline:resume", response_id: "resp_9", starting_after: -1, stream_id: handle.streamId },
  ]);
  sockets.last.push(...log(handle, "resp_9", ["all of it"]));
  assert.equal((await handle.done).text, "all of it");
});

test("a response that is gone says so", async () => {
  const { client, sockets } = connect();
  const handle = client.follow("resp_gone");
  sockets.last.push(refusal(handle, 404, "response_not_found"));
  assert.equal((await handle.done).error?.code, "response_not_found");
});

test("an answer whose log was rolled back starts over, and says so", async () => {
  const { client, clock, sockets } = connect();
  const handle = client.ask({ input: "hi" });
  sockets.last.push(...log(handle, "resp_1", ["dead"]).slice(0, 4));
  sockets.last.drop();
  clock.advance(0);
  sockets.last.welcome();
  sockets.last.push(refusal(handle, 410, "response_rolled_back"));
  clock.advance(1_000);
  assert.deepEqual(sockets.last.of("holdline:resume").map((message) => message.starting_after), [3, -1]);
  assert.deepEqual([handle.answer.text, handle.answer.attempts], ["", 2]);
  sockets.last.push(...log(handle, "resp_1", ["new"]));
  assert.equal((await handle.done).text, "new");
  assert.equal(handle.verified, true);
});

test("an answer that does not match its checksum is fetched again, once", async () => {
  const { client, sockets } = connect();
  const handle = client.ask({ input: "hi" });
  sockets.last.push(...log(handle, "resp_1", ["wrong"], { sha256: "0".repeat(64) }));
  while (sockets.last.of("holdline:resume").length === 0) await new Promise(setImmediate);
  assert.equal(sockets.last.of("holdline:resume")[0].starting_after, -1);
  sockets.last.push(...log(handle, "resp_1", ["right"]));
  assert.equal((await handle.done).text, "right");
  assert.equal(handle.verified, true);
});

test("a doubtful answer that cannot be fetched again is kept and marked", async () => {
  const { client, sockets } = connect();
  const handle = client.ask({ input: "hi" });
  sockets.last.push(...log(handle, "resp_1", ["doubtful"], { sha256: "0".repeat(64) }));
  while (sockets.last.of("holdline:resume").length === 0) await new Promise(setImmediate);
  sockets.last.push(refusal(handle, 404, "response_not_found"));
  const answer = await handle.done;
  assert.equal(answer.text, "doubtful");
  assert.equal(answer.status, "completed");
  assert.equal(handle.verified, false);
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

test("closing settles what is under way as it stands", async () => {
  const { client, clock, sockets } = connect();
  const handle = client.ask({ input: "hi" });
  sockets.last.push(...log(handle, "resp_1", ["a", "b"]).slice(0, 4));
  client.close();
  const answer = await handle.done;
  assert.equal(answer.status, "in_progress");
  assert.equal(answer.text, "a");
  assert.equal(clock.pending, 0);
});
