import assert from "node:assert/strict";
import { test } from "node:test";

import { History, STEP_MS, STEPS } from "../../web/console-history.js";
import { pictureOf, ticksOf } from "../../web/console-picture.js";
import { ago, count, counted, duration, isResponseId, kindsOf, percent, quoted, responseIdIn, short, span } from "../../web/console-format.js";

test("times are written for people", () => {
  assert.deepEqual([0, 0.4, 12, 60, 179, 3_600, 7_500, 86_400, 190_000].map(span), [
    "now", "now", "12 s", "1 min", "2 min", "1 h", "2 h 5 min", "1 day", "2 days",
  ]);
  assert.deepEqual([0, 125].map(ago), ["just now", "2 min ago"]);
  assert.deepEqual([0, 420, 3_240, 12_900, 245_000, 120_000, 7_500_000].map(duration), [
    "0 ms", "420 ms", "3.2 s", "12 s", "4 min 5 s", "2 min", "2 h 5 min",
  ]);
});

test("numbers and shares are written for people", () => {
  assert.deepEqual([1, 10_000, 1_234_567].map(count), ["1", "10,000", "1.2M"]);
  assert.deepEqual([counted(1, "slot"), counted(2_000, "slot")], ["1 slot", "2,000 slots"]);
  assert.deepEqual([0, 0.004, 0.999, 1.2].map(percent), ["0%", "under 1%", "99%", "120%"]);
  assert.equal(short("resp_0001234567890abcdef"), "resp_0001234567890…");
  assert.equal(short("resp_1"), "resp_1");
});

test("a command keeps any text as one word of a shell", () => {
  assert.equal(quoted("resp_000a"), "resp_000a");
  assert.equal(quoted("a b; rm -rf / 'x'"), `'a b; rm -rf / '\\''x'\\'''`);
  assert.equal(quoted(""), "''");
});

test("an alert with another command is another alert, but one with another number is the same", () => {
  const alert = (used, tenant) => ({ level: "warning", text: `The tenant ${tenant} has used ${used}%`, command: `show ${tenant}` });
  assert.equal(kindsOf([alert(91, "acme1")]), kindsOf([alert(92, "acme1")]));
  assert.notEqual(kindsOf([alert(91, "acme1")]), kindsOf([alert(91, "acme2")]));
});

test("a response id is found in whatever was pasted", () => {
  assert.equal(responseIdIn("https://holdline.example/console#resp_000ab and more"), "resp_000ab");
  assert.equal(responseIdIn('{"response_id":"resp_000ab"}'), "resp_000ab");
  assert.equal(responseIdIn("fast"), null);
  assert.deepEqual(["resp_0a", "resp_", "x resp_0a", `resp_${"a".repeat(200)}`].map(isResponseId), [true, false, false, false]);
});

test("the history keeps fifteen minutes, with gaps where the page saw nothing", () => {
  const history = new History();
  history.add(0, { waiting: 1, running: 2, started: 10 });
  history.add(10, { waiting: 3, running: 2, started: 11 });
  history.add(3 * STEP_MS, { waiting: 5, running: 2, started: 12 });
  assert.deepEqual(history.of("waiting"), [3, null, null, 5]);
  for (let step = 4; step < STEPS + 10; step += 1) history.add(step * STEP_MS, { waiting: step, running: 0, started: 12 });
  assert.equal(history.of("waiting").length, STEPS);
  assert.equal(history.of("waiting").at(-1), STEPS + 9);
  history.add(1e9, { waiting: 7, running: 0, started: 12 });
  assert.deepEqual(history.of("waiting").filter((value) => value !== null), [7]);
});

test("the rate counts the last minute, and survives a counter that begins again", () => {
  const history = new History();
  for (let step = 0; step <= 24; step += 1) history.add(step * STEP_MS, { waiting: 0, running: 0, started: 2 * step });
  assert.equal(history.perMinute[0], null);
  assert.equal(history.perMinute.at(-1), 24);
  history.add(25 * STEP_MS, { waiting: 0, running: 0, started: 1 });
  assert.equal(history.perMinute.at(-1), null);
});

const step = (at, kind, more = {}) => ({ at: 100 + at, kind, attempt: null, worker: null, code: null, ...more });

const restarted = [
  step(0, "submitted"), step(0, "queued", { code: "default tier" }), step(2, "claimed", { attempt: 1, worker: "one" }),
  step(8, "worker_lost", { attempt: 1 }), step(9, "claimed", { attempt: 2, worker: "two" }),
  step(9, "restarted", { attempt: 2, code: "worker_lost" }), step(10, "first_token", { attempt: 2 }),
  step(19, "ended", { attempt: 2, code: "completed" }), step(20, "webhook_ended", { code: "sent" }),
];

test("a picture has a row for the queue, for each attempt and for the delivery", () => {
  const { seconds, rows } = pictureOf(restarted, 1_000);
  assert.equal(seconds, 20);
  assert.deepEqual(rows.map(({ title, note }) => [title, note]), [
    ["Queue", ""], ["Attempt 1", "one"], ["Attempt 2", "two"], ["Delivery", ""],
  ]);
  const spans = rows.map(({ bars }) => bars.map(({ from, to, phase }) => [from * 20, to * 20, phase]));
  assert.deepEqual(spans, [
    [[0, 2, "waiting"], [8, 9, "waiting"]],
    [[2, 8, "lost"]],
    [[9, 10, "thinking"], [10, 19, "writing"]],
    [],
  ]);
  assert.deepEqual(rows[2].marks.map(({ kind }) => kind), ["restarted", "first_token", "ended completed"]);
});

test("a picture of an unfinished response ends now", () => {
  const waiting = pictureOf(restarted.slice(0, 2), 130);
  assert.deepEqual(waiting.rows[0].bars, [{ from: 0, to: 1, phase: "waiting" }]);
  const running = pictureOf(restarted.slice(0, 7), 140);
  assert.equal(running.seconds, 40);
  assert.equal(running.rows[2].bars[1].to, 1);
  assert.deepEqual(pictureOf([], 100), { seconds: 0, rows: [] });
});

test("the model that the same worker calls again begins another attempt", () => {
  const steps = [step(0, "submitted"), step(1, "claimed", { attempt: 1 }), step(3, "called_again", { attempt: 2 }), step(4, "delayed", { attempt: 2 })];
  const { rows } = pictureOf(steps, 106);
  assert.deepEqual(rows.map(({ title, bars }) => [title, bars.at(-1)?.phase]), [["Queue", "waiting"], ["Attempt 1", "lost"], ["Attempt 2", "lost"]]);
});

test("the axis has a few round times", () => {
  for (const seconds of [0.3, 7, 31, 400, 4_000, 90_000, 1e6]) {
    const ticks = ticksOf(seconds);
    assert.ok(ticks.length >= 2 && ticks.length <= 6, `${seconds}: ${ticks}`);
    assert.ok(ticks.every((tick) => tick <= seconds));
  }
});
