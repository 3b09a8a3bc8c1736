import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { ResponseState, verify } from "../../web/response-state.js";

const vectors = JSON.parse(readFileSync(new URL("../vectors/response-state.json", import.meta.url), "utf8"));

for (const { name, events, expect } of vectors) {
  test(`the state: ${name}`, () => {
    const answer = new ResponseState();
    const outcomes = events.map((event) => answer.apply(event));
    const gaps = outcomes.filter((outcome) => outcome === "gap").length;
    assert.deepEqual(
      { text: answer.text, status: answer.status, last: answer.lastSequenceNumber, attempts: answer.attempts, gaps },
      expect,
    );
  });

  test(`the checksum is that of the text: ${name}`, async () => {
    const answer = new ResponseState();
    for (const event of events) answer.apply(event);
    if (answer.trailer === null || answer.status === "failed") return;
    assert.equal(await verify(answer.text, answer.trailer), true);
    assert.equal(await verify(answer.text + "!", answer.trailer), false);
  });
}

test("any prefix, then the whole log again, gives the same answer", () => {
  for (const { events, expect, name } of vectors.filter(({ expect }) => expect.gaps === 0)) {
    for (let cut = 0; cut <= events.length; cut++) {
      const answer = new ResponseState();
      for (const event of [...events.slice(0, cut), ...events]) answer.apply(event);
      assert.equal(answer.text, expect.text, `${name}, cut at ${cut}`);
      assert.equal(answer.status, expect.status, `${name}, cut at ${cut}`);
    }
  }
});

test("an answer followed from its middle receives the rest", () => {
  const answer = new ResponseState("resp_0_a1", 4);
  const delta = { type: "response.output_text.delta", output_index: 0, content_index: 0, item_id: "m", delta: "end" };
  assert.equal(answer.apply({ ...delta, sequence_number: 4 }), "seen");
  assert.equal(answer.apply({ ...delta, sequence_number: 6 }), "gap");
  assert.equal(answer.apply({ ...delta, sequence_number: 5 }), "applied");
  assert.equal(answer.text, "end");
});

test("the position in the queue is known until the work begins", () => {
  const answer = new ResponseState();
  answer.apply({ type: "holdline:queued", response_id: "r", position: 4, eta_seconds: 9.5, reason: "busy" });
  assert.deepEqual(answer.queue, { position: 4, etaSeconds: 9.5, reason: "busy" });
  assert.equal(answer.responseId, "r");
  answer.apply({ type: "response.created", sequence_number: 0, response: { id: "r", status: "queued" } });
  assert.equal(answer.queue?.position, 4);
  answer.apply({ type: "response.in_progress", sequence_number: 1, response: { id: "r", status: "in_progress" } });
  assert.equal(answer.queue, null);
  answer.apply({ type: "holdline:queued", response_id: "r", position: null, eta_seconds: 0.4, reason: "retry" });
  assert.equal(answer.status, "in_progress", "between two attempts it waits again, and its text stays until the next");
  assert.equal(answer.queue?.reason, "retry");
  answer.apply({ type: "holdline:restarted", sequence_number: 2, response_id: "r", attempt: 2 });
  assert.equal(answer.queue, null);
});

test("a failure carries its code and its message", () => {
  const answer = new ResponseState();
  const error = { code: "rate_limit_exceeded", message: "Too much." };
  answer.apply({ type: "response.failed", sequence_number: 0, response: { id: "r", status: "failed", error } });
  assert.deepEqual(answer.error, error);
});

test("a checksum with another length is refused without a digest", async () => {
  assert.equal(await verify("abc", { bytes: 4 }), false);
  assert.equal(await verify("abc", { bytes: 3 }), null, "a length alone proves nothing");
  assert.equal(await verify("abc", null), null);
});
