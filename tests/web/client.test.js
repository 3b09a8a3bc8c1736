import assert from "node:assert/strict";
import { test } from "node:test";

import { connect, log, refusal } from "./client-steps.js";

test("an answer arrives verified, and its state is released", async () => {
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

test("a request whose socket is lost before acceptance is resent with the same key", async () => {
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

test("a socket lost in mid-answer leads to a resume and not to a second request", async () => {
  const { client, clock, sockets } = connect();
  const handle = client.ask({ input: "hi" });
  const events = log(handle, "resp_1", ["a", "b", "c"]);
  sockets.last.push(...events.slice(0, 4));
  sockets.last.drop();
  clock.advance(0);
  sockets.last.welcome();
  assert.deepEqual(sockets.last.sent, [
    {
      type: "holdline:resume", response_id: "resp_1", starting_after: 3, item_id: "msg_1", event_type: events[3].type,
      stream_id: handle.streamId,
    },
  ]);

  sockets.last.push(...events.slice(2)); // the client ignores events that it has already received
  assert.equal((await handle.done).text, "abc");
});

test("an answer is complete and unrepeated after a socket loss at any event", async () => {
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

test("a matching pong requests nothing, and a pong without the response requests a resume", () => {
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

test("a gap is requested once and filled", async () => {
  const { client, sockets } = connect();
  const handle = client.ask({ input: "hi" });
  const events = log(handle, "resp_1", ["a", "b", "c"]);
  sockets.last.push(...events.slice(0, 3), ...events.slice(5));
  assert.deepEqual(sockets.last.of("holdline:resume").map((message) => message.starting_after), [2]);
  sockets.last.push(...events.slice(3));
  assert.equal((await handle.done).text, "abc");
});

test("an already_followed reply to a resume is accepted", async () => {
  const { client, clock, sockets } = connect();
  const handle = client.ask({ input: "hi" });
  const events = log(handle, "resp_1", ["a", "b"]);
  sockets.last.push(...events.slice(0, 4));
  clock.advance(25_000);
  const pong = () => ({ type: "holdline:pong", id: sockets.last.of("holdline:ping").at(-1).id, responses: { resp_1: 5 } });
  sockets.last.push(pong(), refusal(handle, 409, "already_followed"));
  assert.equal(handle.answer.status, "in_progress");
  assert.equal(client.state, "open");

  clock.advance(25_000); // at the next ping, the event is still missing, so the client opens another socket
  sockets.last.push(pong());
  assert.equal(client.state, "reconnecting");
  clock.advance(0);
  sockets.last.welcome();
  sockets.last.push(...events.slice(4));
  assert.equal((await handle.done).text, "ab");
});

test("a gap that one socket does not fill is filled on another", async () => {
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

test("an oversized prompt fails locally and the socket stays open", async () => {
  const { client, sockets } = connect({ open: false });
  sockets.last.welcome({ limits: { message_bytes: 1_000 } });
  const handle = client.ask({ input: "ü".repeat(500) });
  assert.equal((await handle.done).error?.code, "too_large");
  assert.deepEqual(sockets.last.sent, []);
});

test("an accepted answer survives a long outage of the server", async () => {
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

test("a waiting prompt can be withdrawn and is then never sent", async () => {
  const { client, sockets } = connect({ open: false });
  const handle = client.ask({ input: "never mind" });
  handle.stop();
  assert.equal((await handle.done).status, "cancelled");
  sockets.last.welcome();
  assert.deepEqual(sockets.last.sent, []);
});

test("an error fails only its own lane", async () => {
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

test("a temporary refusal is retried with the same key a bounded number of times", async () => {
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

test("an unanswered request is resent and then fails", async () => {
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

test("a request is not resent once its key may have expired", async () => {
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

  sockets.last.drop(); // the server may not have received the cancel, so the client sends it again
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

test("a stop before acceptance sends the cancel once the response id is known", () => {
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

test("a deleted response is reported as gone", async () => {
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

test("an unverified answer that cannot be fetched again is kept and marked", async () => {
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

test("closing the client settles open answers in their current state", async () => {
  const { client, clock, sockets } = connect();
  const handle = client.ask({ input: "hi" });
  sockets.last.push(...log(handle, "resp_1", ["a", "b"]).slice(0, 4));
  client.close();
  const answer = await handle.done;
  assert.equal(answer.status, "in_progress");
  assert.equal(answer.text, "a");
  assert.equal(clock.pending, 0);
});
