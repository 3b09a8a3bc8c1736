import assert from "node:assert/strict";
import { test } from "node:test";

import { auth, cancel, closeAdvice, create, parseFrame, ping, resume, socketUrl, lifetimeOf } from "../../web/protocol.js";

test("a frame is an event only if it is an object with a type", () => {
  assert.deepEqual(parseFrame('{"type":"x","sequence_number":1}'), { type: "x", sequence_number: 1 });
  for (const frame of ["", "{", "null", "1", "[]", '"type"', "{}", '{"type":1}', new ArrayBuffer(2), undefined]) {
    assert.equal(parseFrame(frame), null);
  }
});

test("the messages of a client", () => {
  assert.deepEqual(create({ input: "hi", model: "m" }, "lane", "key"), {
    type: "response.create", input: "hi", model: "m", stream_id: "lane", idempotency_key: "key",
  });
  assert.deepEqual(cancel("r"), { type: "response.cancel", response_id: "r" });
  const seen = { item_id: "msg_1", event_type: "response.output_text.delta" };
  assert.deepEqual(resume({ responseId: "r", lastSequenceNumber: 3, event: seen }, "lane"), {
    type: "holdline:resume", response_id: "r", starting_after: 3, item_id: "msg_1", event_type: "response.output_text.delta",
    stream_id: "lane",
  });
  assert.deepEqual(ping("7"), { type: "holdline:ping", id: "7" });
  assert.deepEqual(auth("t"), { type: "holdline:auth", token: "t" });
});

test("the socket URL is derived from the URL of the caller", () => {
  assert.equal(socketUrl("/v1/responses", "https://a.example/page?x#y"), "wss://a.example/v1/responses");
  assert.equal(socketUrl("http://a.example:8080/v1/responses#x"), "ws://a.example:8080/v1/responses");
  assert.equal(socketUrl("wss://a.example/v1/responses?k=1"), "wss://a.example/v1/responses?k=1");
  assert.throws(() => socketUrl("ftp://a.example/"), TypeError);
  assert.throws(() => socketUrl("/v1/responses"), TypeError);
});

test("close codes that allow a reconnect", () => {
  const comeBack = [1000, 1001, 1005, 1006, 1011, 1012, 1013, 1015, 4408, 4429, 4500];
  const final = [1002, 1003, 1007, 1008, 1009, 4400, 4401, 4499];
  for (const code of comeBack) assert.equal(closeAdvice(code).comeBack, true, String(code));
  for (const code of final) assert.equal(closeAdvice(code).comeBack, false, String(code));
});

test("the delay before a reconnect", () => {
  assert.equal(closeAdvice(1006).afterMs, 0);
  assert.equal(closeAdvice(4429).afterMs, 5_000);
  assert.equal(closeAdvice(4429, "retry_after_ms=1200").afterMs, 1_200);
  assert.equal(closeAdvice(1013, '{"retry_after_ms": 800}').afterMs, 800);
});

test("the lifetime that a token states", () => {
  const token = (claims) => `e30.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.s`;
  assert.equal(lifetimeOf(token({ iat: 1_000, exp: 1_060 })), 60_000);
  assert.equal(lifetimeOf(token({ iat: 1_000, exp: 1_060, name: "ÿÿ>?" })), 60_000);
  assert.equal(lifetimeOf(token({ iat: 0, exp: 1e12 })), 2 ** 31 - 1);
  for (const other of ["", "opaque", "a.b.c", token({ exp: 5 }), token({ iat: 9, exp: 5 }), token(null)]) {
    assert.equal(lifetimeOf(other), 0, other);
  }
});
