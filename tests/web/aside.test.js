import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { ResponseState } from "../../web/response-state.js";
import { asideOf } from "../../web/aside.js";

const vectors = JSON.parse(readFileSync(new URL("../vectors/aside.json", import.meta.url), "utf8"));

/** Numbers the events and applies them to a response. */
const fold = (events) => {
  const answer = new ResponseState();
  for (const [index, event] of events.entries()) {
    assert.equal(answer.apply({ ...event, sequence_number: index }), "applied", event.type);
  }
  return answer;
};

for (const { name, events, text, aside } of vectors) {
  test(`beside the text: ${name}`, () => {
    const answer = fold(events);
    assert.deepEqual({ text: answer.text, aside: asideOf(answer) }, { text, aside });
  });

  test(`the same from the terminal event: ${name}`, () => {
    const output = events.filter(({ type }) => type === "response.output_item.done").map(({ item }) => item);
    const answer = fold([{ type: "response.completed", response: { id: "r", status: "completed", output } }]);
    assert.deepEqual({ text: answer.text, aside: asideOf(answer) }, { text, aside });
  });
}

test("malformed output items cause no error", () => {
  const output = [null, 1, "x", {}, { type: "message", content: [null, 3] }, { type: 7, content: "x", summary: {} },
    { type: "message", content: [{ type: "output_text", text: "fine", annotations: [null, { type: "url_citation", url: 5 }] }] }];
  const answer = fold([{ type: "response.completed", response: { id: "r", status: "completed", output } }]);
  assert.equal(answer.text, "fine");
  assert.equal(asideOf(answer), null);
});
