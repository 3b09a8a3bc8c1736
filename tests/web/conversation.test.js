import assert from "node:assert/strict";
import { test } from "node:test";

import { Conversation, isExpected, storageOf, TURN_LIMIT } from "../../web/conversation.js";

/** Returns a storage that rejects values longer than `room` characters. */
function storage(room = Infinity) {
  const kept = new Map();
  return {
    getItem: (key) => kept.get(key) ?? null,
    setItem(key, value) {
      if (value.length > room) throw new Error("full");
      kept.set(key, value);
    },
    removeItem: (key) => void kept.delete(key),
  };
}

const end = (turn, id, status = "completed", text = "An answer.") =>
  Object.assign(turn, { responseId: id, status, text });

test("each stored turn is restored after a reload", () => {
  const place = storage();
  const before = new Conversation(place);
  before.save(end(before.add("one", "k1"), "resp_1"));
  before.add("two", "k2");
  assert.deepEqual(new Conversation(place).turns, before.turns);
  assert.equal(new Conversation(place).turns[1].key, "k2");
});

test("a prompt continues the last answer that can be continued", () => {
  const conversation = new Conversation(storage());
  assert.deepEqual(conversation.add("one", "k1").request, { input: "one" });
  end(conversation.turns[0], "resp_1");
  end(conversation.add("two", "k2"), "resp_2", "failed");
  end(conversation.add("three", "k3"), null, "cancelled", "");
  assert.deepEqual(conversation.add("four", "k4").request, { input: "four", previous_response_id: "resp_1" });
  end(conversation.turns[3], "resp_4", "cancelled", "What had been");
  assert.equal(conversation.add("five", "k5").request.previous_response_id, "resp_4");
});

test("regenerating an answer sends the same request with a new key", () => {
  const conversation = new Conversation(storage());
  end(conversation.add("one", "k1"), "resp_1");
  const stopped = end(conversation.add("two", "k2"), "resp_2", "cancelled");
  const again = conversation.add("two", "k3", { like: stopped });
  assert.deepEqual(again.request, stopped.request);
  assert.equal(again.key, "k3");
});

test("the whole conversation is sent to a server that no longer has it", () => {
  const conversation = new Conversation(storage());
  end(conversation.add("one", "k1"), "resp_1", "completed", "First.");
  end(conversation.add("two", "k2"), "resp_2", "failed", "Half");
  assert.deepEqual(conversation.add("three", "k3", { whole: true }).request, {
    input: [
      { type: "message", role: "user", content: "one" },
      { type: "message", role: "assistant", content: "First." },
      { type: "message", role: "user", content: "three" },
    ],
  });
});

test("the number of stored turns is bounded, and reduced if storage is full", () => {
  const conversation = new Conversation(storage());
  for (let turn = 0; turn <= TURN_LIMIT; turn++) conversation.add(String(turn), `k${turn}`);
  assert.equal(conversation.turns.length, TURN_LIMIT);
  assert.equal(conversation.turns[0].prompt, "1");

  const small = storage(1_000);
  const tight = new Conversation(small);
  for (let turn = 0; turn < 20; turn++) tight.add(`prompt ${turn}`, `k${turn}`);
  const kept = new Conversation(small).turns;
  assert.ok(kept.length > 0 && kept.length < 20);
  assert.equal(kept.at(-1).prompt, "prompt 19");
});

test("invalid stored data is treated as an empty conversation", () => {
  for (const remains of ["{", "1", "null", '[{"other":1}]', '{"a":1}', "[null]"]) {
    const place = storage();
    place.setItem("holdline.conversation", remains);
    assert.deepEqual(new Conversation(place).turns, []);
  }
});

test("a new conversation leaves nothing behind", () => {
  const place = storage();
  const conversation = new Conversation(place);
  conversation.add("one", "k1");
  conversation.clear();
  assert.deepEqual(new Conversation(place).turns, []);
});

test("two tabs merge their turns, and known turns keep their identity", () => {
  const place = storage();
  const here = new Conversation(place);
  const there = new Conversation(place);
  const mine = here.add("one", "k1");
  there.sync();
  const theirs = there.add("two", "k2");
  here.save(end(mine, "resp_1"));
  here.sync();
  assert.deepEqual(here.turns.map(({ key }) => key), ["k1", "k2"]);
  assert.equal(here.turns[0], mine);
  there.sync();
  assert.equal(there.turns[1], theirs);
  assert.equal(there.turns[0].responseId, "resp_1");
  there.remove(theirs);
  here.sync();
  assert.deepEqual(here.turns, [mine]);
  here.clear();
  there.sync();
  assert.deepEqual(there.turns, []);
});

test("a turn that another tab removed stays removed, although this tab wrote it again meanwhile", () => {
  const place = storage();
  const here = new Conversation(place);
  const one = here.add("one", "k1");
  const two = here.add("two", "k2");
  const there = new Conversation(place);
  const oldValue = place.getItem("holdline.conversation");
  there.clear();
  here.save(end(two, "resp_2")); // this process has not seen the removal yet
  here.save(one);
  const mine = here.add("three", "k3"); // the other tab did not know this turn
  here.sync({ oldValue, newValue: null });
  assert.deepEqual(here.turns, [mine]);
  assert.deepEqual(new Conversation(place).turns, [mine]);

  const both = place.getItem("holdline.conversation");
  const four = here.add("four", "k4");
  here.sync({ oldValue: place.getItem("holdline.conversation"), newValue: both });
  assert.deepEqual(here.turns, [mine]);
  here.save(four);
  here.sync({ oldValue: both, newValue: both });
  assert.deepEqual(here.turns.map(({ key }) => key), ["k3", "k4"]);
});

test("conversations with different names are separate", () => {
  const place = storage();
  new Conversation(place, "a").add("one", "k1");
  assert.deepEqual(new Conversation(place, "b").turns, []);
});

test("a page without storage still has a conversation", () => {
  const place = storageOf("none");
  new Conversation(place).add("one", "k1");
  assert.equal(new Conversation(place).turns.length, 1);
});

const files = [{ name: "a.png", size: 9, type: "image/png" }];
const content = [{ type: "input_text", text: "see" }, { type: "input_image", image_url: "data:image/png;base64,AAAA" }];

test("the content of files is sent, but not stored", () => {
  const place = storage();
  const conversation = new Conversation(place);
  const turn = conversation.add("see", "k1", { files, content });
  assert.deepEqual(turn.request, { input: [{ type: "message", role: "user", content }] });
  assert.ok(isExpected(turn));
  const [stored] = new Conversation(place).turns;
  assert.deepEqual([stored.files, stored.request], [files, {}]);
  assert.ok(!isExpected(stored)); // another page cannot send it
  conversation.save(Object.assign(turn, { responseId: "resp_1" }));
  assert.ok(isExpected(new Conversation(place).turns[0])); // but can follow its answer
});

test("the opening message precedes the first prompt, and the files of earlier prompts are named", () => {
  const conversation = new Conversation(storage(), "c", "Hello!");
  const opening = { type: "message", role: "assistant", content: "Hello!" };
  end(conversation.add("see", "k1", { files, content }), "resp_1", "completed", "A dot.");
  assert.deepEqual(conversation.turns[0].request.input[0], opening);
  assert.deepEqual(conversation.add("two", "k2").request, { input: "two", previous_response_id: "resp_1" });
  assert.deepEqual(conversation.add("three", "k3", { whole: true }).request.input, [
    opening,
    { type: "message", role: "user", content: "see\n[a.png]" },
    { type: "message", role: "assistant", content: "A dot." },
    { type: "message", role: "user", content: "three" },
  ]);
});
