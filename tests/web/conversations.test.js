import assert from "node:assert/strict";
import { test } from "node:test";

import { answerOf, ConversationState, followConversation, followConversations, markdownOf, promptOf } from "../../web/conversations.js";
import { connect } from "./client-steps.js";

const ID = "conv_1";

/** Returns a function that makes the events of a feed, with consecutive numbers. */
function feed() {
  let number = -1;
  return (kind, more = {}) => {
    number += 1;
    return {
      type: `holdline:conversation.${kind}`, conversation: ID, sequence_number: number, event_id: `evt_${number}`,
      created_at: 1_000 + number, ...more,
    };
  };
}

const user = (id, text) => ({ id, type: "message", role: "user", content: [{ type: "input_text", text }] });
const assistant = (id, text) => ({ id, type: "message", role: "assistant", content: [{ type: "output_text", text }] });

/** Returns the events of a whole turn. */
function turn(make, id, previous, prompt, text) {
  return [
    make("response.created", { response_id: id, previous_response_id: previous }),
    make("items.added", { response_id: id, field: "input", items: [user(`in_${id}`, prompt)] }),
    make("items.added", { response_id: id, field: "output", items: [assistant(`out_${id}`, text)] }),
    make("response.ended", { response_id: id, status: "completed" }),
  ];
}

const stateOf = (...events) => {
  const state = new ConversationState(ID);
  for (const event of events.flat()) assert.equal(state.apply(event), "applied");
  return state;
};
const shown = (path) => path.map((one) => [promptOf(one).text, answerOf(one).text]);

test("a feed becomes turns with their prompts and answers, a title and the state of reading", () => {
  const make = feed();
  const state = stateOf(make("created", { metadata: {} }), turn(make, "a", null, "why", "so"), make("updated", { metadata: { title: "Why" } }));
  assert.deepEqual(shown(state.path()), [["why", "so"]]);
  assert.equal(state.title, "Why");
  assert.equal(state.unread, true);
  assert.equal(state.apply(make("read", { read: 3 })), "applied");
  assert.equal(state.unread, false);
});

test("an answer is running until its end, and the text before its end comes from its own log", () => {
  const make = feed();
  const state = stateOf(turn(make, "a", null, "why", "so").slice(0, 2));
  assert.deepEqual(state.running, ["a"]);
  stateOf(); // a state without events has no turns
  assert.deepEqual(state.path()[0].output, []);
});

test("a duplicate is dropped, a gap is reported, and events of another conversation are ignored", () => {
  const make = feed();
  const [first, second, third] = turn(make, "a", null, "why", "so");
  const state = stateOf(first);
  assert.equal(state.apply(first), "seen");
  assert.equal(state.apply(third), "gap");
  assert.equal(state.apply({ ...second, conversation: "conv_2" }), "ignored");
  assert.equal(state.lastSequenceNumber, 0);
});

test("a regenerated answer is another branch: the newest is shown, and the earlier one can be chosen", () => {
  const make = feed();
  const state = stateOf(turn(make, "a", null, "1", "one"), turn(make, "b", "a", "2", "two"), turn(make, "c", "a", "2", "deux"), turn(make, "d", "c", "3", "trois"));
  assert.deepEqual(shown(state.path()), [["1", "one"], ["2", "deux"], ["3", "trois"]]);
  assert.deepEqual(shown(state.path(new Set(["b"]))), [["1", "one"], ["2", "two"]]);
  assert.equal(state.branches, true);
  const { place, turns } = state.branch("b");
  assert.deepEqual([place, turns.map(({ responseId }) => responseId)], [0, ["b", "c"]]);
  assert.deepEqual(state.branch("unsent"), { place: -1, turns: [] });
});

test("a turn whose items were deleted is left out, and the later turns stay", () => {
  const make = feed();
  const state = stateOf(turn(make, "a", null, "1", "one"), turn(make, "b", "a", "2", "two"), turn(make, "c", "b", "3", "three"),
    ["in_b", "out_b"].map((id) => make("item.deleted", { item_id: id })));
  assert.deepEqual(shown(state.path()), [["1", "one"], ["3", "three"]]);
  assert.equal(state.branches, false);
});

test("a conversation is exported as Markdown", () => {
  const make = feed();
  const state = stateOf(turn(make, "a", null, "why", "so"));
  assert.equal(markdownOf("T", state.path(), { you: "You", answer: "Answer" }), "# T\n\n## You\n\nwhy\n\n## Answer\n\nso\n");
});

test("a follower sends its cursor after each loss, after the token, and starts anew on reset", () => {
  const { client, clock, sockets } = connect();
  client.authenticate("t");
  const follower = followConversation(client, ID);
  const make = feed();
  assert.deepEqual(sockets.last.of("holdline:follow"), [{ type: "holdline:follow", conversation: ID, starting_after: -1 }]);
  const events = turn(make, "a", null, "why", "so");
  sockets.last.push({ type: "holdline:following", conversation: { id: ID }, sequence_number: 3, reset: false }, ...events.slice(0, 2));
  assert.equal(follower.current, false);
  sockets.last.drop();
  clock.advance(0);
  sockets.last.welcome();
  assert.deepEqual(sockets.last.sent.map(({ type, starting_after, event_id }) => [type, starting_after, event_id]),
    [["holdline:auth", undefined, undefined], ["holdline:follow", 1, "evt_1"]]);
  sockets.last.push(...events.slice(2));
  assert.equal(follower.current, true);
  assert.deepEqual(shown(follower.state.path()), [["why", "so"]]);
  sockets.last.push({ type: "holdline:following", conversation: { id: ID }, sequence_number: 0, reset: true });
  assert.deepEqual(follower.state.path(), []);
  client.close();
});

test("an event about a response in the feed is not an event of this response", () => {
  const { client, sockets } = connect();
  const handle = client.follow("a");
  sockets.last.push({ ...feed()("response.created", { response_id: "a" }), sequence_number: 0 });
  assert.equal(handle.answer.lastSequenceNumber, -1);
  assert.equal(client.follow("a"), handle);
  client.close();
});

test("a closed follower unfollows and changes no more", () => {
  const { client, sockets } = connect();
  const follower = followConversation(client, ID);
  follower.close();
  assert.deepEqual(sockets.last.of("holdline:unfollow"), [{ type: "holdline:unfollow", conversation: ID }]);
  sockets.last.push(...turn(feed(), "a", null, "1", "one"));
  assert.equal(follower.state.lastSequenceNumber, -1);
  client.close();
});

test("a refusal is an error of the follower, and a deletion is its last change", () => {
  const { client, sockets } = connect();
  const [refused, other] = [followConversation(client, "conv_0"), followConversation(client, ID)];
  sockets.last.push({ type: "error", status: 404, conversation: "conv_0", error: { code: "conversation_not_found", message: "none" } });
  assert.equal(refused.error.code, "conversation_not_found");
  assert.equal(other.error, null);
  sockets.last.push({ type: "holdline:conversation.deleted", conversation: ID });
  assert.equal(other.state.deleted, true);
  client.close();
});

test("the list is sorted by its last changes, follows from its cursor, and keeps the later state", () => {
  const { client, clock, sockets } = connect();
  const list = followConversations(client);
  const one = (id, at, number = at) => ({ id, metadata: {}, holdline: { updated_at_ms: at, sequence_number: number } });
  const ids = () => list.conversations.map(({ id }) => id);
  sockets.last.push({ type: "holdline:following", conversations: [one("a", 1), one("b", 2)], has_more: true, sequence_number: 4, event_id: "e4" });
  assert.deepEqual(ids(), ["b", "a"]);
  assert.equal(list.hasMore, true);
  sockets.last.push({ type: "holdline:list.changed", sequence_number: 5, event_id: "e5", change: "updated", conversation: one("a", 3) });
  list.add([one("a", 1)]); // a page that was fetched before the change
  assert.deepEqual(ids(), ["a", "b"]);
  sockets.last.drop();
  clock.advance(0);
  sockets.last.welcome();
  assert.deepEqual(sockets.last.of("holdline:follow"), [{ type: "holdline:follow", conversation: null, starting_after: 5, event_id: "e5" }]);
  sockets.last.push({ type: "holdline:list.deleted", sequence_number: 6, event_id: "e6", conversation: "a" });
  assert.deepEqual(ids(), ["b"]);
  client.close();
});
