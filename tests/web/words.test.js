import assert from "node:assert/strict";
import { test } from "node:test";

import { ResponseState } from "../../web/response-state.js";
import { bannerWords, statusWords } from "../../web/status.js";

/** Returns the status text for an answer after changes to the answer and its request handle. */
function words(answerChanges, handleChanges = {}, state = "open") {
  const answer = Object.assign(new ResponseState("resp_1"), answerChanges);
  return statusWords({ answer, stopping: false, busy: false, verified: null, request: {}, ...handleChanges }, state);
}

const item = new Map([[0, { id: "m", texts: ["text"] }]]);

test("each stage of waiting has its own text", () => {
  const stages = [
    words({ status: "sending" }, {}, "reconnecting"),
    words({ status: "sending" }),
    words({ status: "sending" }, { request: null }),
    words({ status: "queued" }),
    words({ status: "queued", queue: { position: 3, etaSeconds: 7.6, reason: null } }),
    words({ status: "queued", queue: { position: 1, etaSeconds: null, reason: null } }),
    words({ status: "in_progress", attempts: 1 }),
    words({ status: "in_progress", attempts: 1, items: item }),
    words({ status: "in_progress", attempts: 1, items: item, queue: { position: null, etaSeconds: 0.4, reason: "retry" } }),
    words({ status: "in_progress", attempts: 2, restartReason: "worker_lost" }),
    words({ status: "in_progress", attempts: 1, items: item }, { stopping: true }),
    words({ status: "sending" }, { busy: true }),
    words({ status: "in_progress", attempts: 1 }, {}, "reconnecting"),
  ];
  assert.deepEqual(stages, [
    "Not sent yet. It will be sent once you are connected.",
    "Sending…",
    "Fetching the answer…",
    "Accepted. Waiting for a free worker…",
    "Accepted. Number 3 in line, about 8 s…",
    "Accepted. Next in line…",
    "Thinking…",
    "Writing…",
    "Interrupted. Another attempt starts soon…",
    "The worker or the model failed. Attempt 2 starts over…",
    "Stopping…",
    "The service is busy. Trying again…",
    "Waiting for the connection. The rest follows.",
  ]);
});

test("a textual reason is shown unchanged", () => {
  const shown = words({ status: "in_progress", attempts: 3, restartReason: "The model was silent for 60 s." });
  assert.equal(shown, "The model was silent for 60 s. Attempt 3 starts over…");
});

test("the final status shows the time, the attempts and the verification", () => {
  const trailer = { attempts: 2, timing: { total_ms: 6_420 } };
  assert.equal(
    words({ status: "completed", attempts: 2, trailer }, { verified: true }),
    "Done in 6.4 s · attempt 2 · complete: the checksum matches",
  );
  assert.equal(words({ status: "completed" }), "");
  assert.match(words({ status: "completed" }, { verified: false }), /damaged/);
  assert.match(words({ status: "incomplete", incompleteReason: "max_output_tokens" }), /at the length limit/);
  assert.match(words({ status: "cancelled", items: item }), /^Stopped\. This/);
  assert.equal(words({ status: "cancelled" }), "Stopped before it began.");
});

test("every failure tells the user what to do", () => {
  const failures = [
    { code: "outbox_full", message: "x" }, { code: "connection_closed", message: "Closed (4401)." },
    { code: "outcome_unknown", message: "x." }, { code: "never_sent", message: "x." },
    { code: "not_accepted", message: "x." }, { code: "gone", message: "x", status: 404 },
    { code: "large", message: "x", status: 413 }, { code: "many", message: "x", status: 429 },
    { code: "server_error", message: "The model went away." }, null,
  ];
  for (const error of failures) {
    assert.match(words({ status: "failed", error }), /[Aa]sk again|[Rr]eload|Stop some/, error?.code);
  }
});

test("the banner has a text for each state except open", () => {
  assert.equal(bannerWords("open", null), "");
  assert.match(bannerWords("open", null, undefined, true), /late/);
  assert.match(bannerWords("reconnecting", null), /^Reconnecting/);
  assert.match(bannerWords("closed", { code: 4401, reason: "" }), /credentials/);
  assert.match(bannerWords("closed", { code: 1009, reason: "too large" }), /1009: too large/);
});
