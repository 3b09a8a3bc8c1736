import assert from "node:assert/strict";
import { test } from "node:test";

import { Conversation } from "../../web/conversation.js";
import { LiveConversation } from "../../web/live.js";
import { Thread } from "../../web/thread.js";
import { FakeClock, fakeSockets } from "./fakes.js";

const ID = "conv_1";
const OWNER = '["i","t","anna"]';

/** Returns a storage in memory. */
function memory(entries = []) {
  const kept = new Map(entries);
  return {
    getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => void kept.set(key, value),
    removeItem: (key) => void kept.delete(key),
  };
}

/** Returns a thread that shows a conversation of the server on a fake socket, and a function that sends events of its feed. */
async function device() {
  globalThis.document = Object.assign(new EventTarget(), { visibilityState: "hidden" });
  const host = Object.assign(new EventTarget(), { isOpen: true, getAttribute: () => null, tokenProvider: () => "" });
  const clock = new FakeClock();
  const Sockets = fakeSockets();
  const kept = new Conversation(memory([["c@", ID]]), "c");
  const conversation = new LiveConversation(kept, OWNER, new URL("http://h/"), host, {});
  const thread = new Thread({
    url: "ws://h/", owner: "", page: null, more: () => ({}), note: ({ answer }) => answer.error?.message ?? "", aside: () => null,
    token: () => undefined, conversation: () => conversation,
    platform: { ...clock, now: clock.now, setTimer: clock.setTimer, clearTimer: clock.clearTimer, random: () => 0, WebSocket: Sockets },
  });
  thread.start();
  await settle();
  const socket = Sockets.last;
  socket.welcome();
  socket.push({ type: "holdline:following", conversation: { id: ID }, sequence_number: -1, reset: false });
  let number = -1;
  const feed = (kind, more = {}) => {
    number += 1;
    socket.push({ type: `holdline:conversation.${kind}`, conversation: ID, sequence_number: number, event_id: `e${number}`, created_at: 1, ...more });
  };
  return { thread, conversation, socket, feed };
}

const settle = () => new Promise((resolve) => setTimeout(resolve));
const message = (id, role, text) => ({ id, type: "message", role, content: [{ type: `${role === "user" ? "in" : "out"}put_text`, text }] });
const shown = ({ conversation }) => conversation.turns.map(({ prompt, text, status }) => [prompt, text, status]);

function begin({ feed }, id = "a") {
  feed("response.created", { response_id: id, previous_response_id: null });
  feed("items.added", { response_id: id, field: "input", items: [message(`${id}-in`, "user", "why")] });
}

function answer({ feed }, text, id = "a") {
  feed("items.added", { response_id: id, field: "output", items: [message(`${id}-out`, "assistant", text)] });
}

/** Answers that the response "a", which a device follows, does not exist. */
async function lose({ socket }) {
  socket.push({ type: "error", status: 404, response_id: "a", error: { code: "response_not_found", message: "none" } });
  await settle();
}

test("a turn that was shown as ended follows what the feed says later", async () => {
  const here = await device();
  begin(here);
  here.feed("response.ended", { response_id: "a", status: "deleted" });
  await lose(here);
  assert.deepEqual(shown(here), [["why", "", "cancelled"]]);
  answer(here, "so");
  assert.deepEqual(shown(here), [["why", "so", "completed"]]);
  here.feed("item.deleted", { item_id: "a-out" });
  assert.deepEqual(shown(here), [["why", "", "cancelled"]]);
  here.feed("item.deleted", { item_id: "a-in" });
  assert.deepEqual(shown(here), []);
  here.thread.end();
});

test("a deleted prompt is not shown any more, but its answer is", async () => {
  const here = await device();
  begin(here);
  answer(here, "so");
  here.feed("response.ended", { response_id: "a", status: "completed", model: "m" });
  await lose(here);
  assert.equal(here.conversation.turns[0].model, "m");
  here.feed("item.deleted", { item_id: "a-in" });
  assert.deepEqual(shown(here), [["", "so", "completed"]]);
  here.thread.end();
});

test("a turn names the last event about its feedback, which leaves its answer alone", async () => {
  const here = await device();
  begin(here);
  answer(here, "so");
  here.feed("response.ended", { response_id: "a", status: "completed", model: "m" });
  await lose(here);
  const events = () => here.conversation.turns.map(({ feedbackEvent }) => feedbackEvent);
  assert.deepEqual(events(), [-1]);
  here.feed("feedback", { response_id: "a" });
  const [first] = events();
  here.feed("feedback", { response_id: "gone" });
  assert.deepEqual(events(), [first]);
  here.feed("feedback", { response_id: "a" });
  assert.deepEqual(events(), [first + 2]);
  assert.deepEqual(shown(here), [["why", "so", "completed"]]);
  here.thread.end();
});

test("an answer that was followed keeps its note, because the feed does not say why it failed", async () => {
  const here = await device();
  begin(here);
  here.socket.push({
    type: "response.failed", response_id: "a", sequence_number: 0, stream_id: here.socket.of("holdline:resume").at(-1).stream_id,
    response: { id: "a", status: "failed", output: [], error: { code: "model_error", message: "The model is down." } },
  });
  await settle();
  here.feed("response.ended", { response_id: "a", status: "failed" });
  assert.equal(here.conversation.turns[0].note, "The model is down.");
  here.thread.end();
});
