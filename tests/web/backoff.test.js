import assert from "node:assert/strict";
import { test } from "node:test";

import { delay, LONGEST_MS, LONGEST_STATED_MS, SHORTEST_MS, triesAfterLoss } from "../../web/backoff.js";

const ALMOST_ONE = 1 - Number.EPSILON;

test("the first retry is immediate", () => {
  assert.equal(delay(0, 0), 0);
  assert.equal(delay(0, ALMOST_ONE), 0);
});

test("later delays are drawn from a range that grows by half up to 20 s", () => {
  const ceilings = [1, 2, 3, 4, 5, 8, 9, 100].map((tries) => Math.round(delay(tries, ALMOST_ONE)));
  assert.deepEqual(ceilings, [1_000, 1_500, 2_250, 3_375, 5_062, 17_086, 20_000, 20_000]);
  for (const tries of [1, 5, 100]) assert.equal(delay(tries, 0), SHORTEST_MS);
  assert.equal(delay(100, 0.5), (SHORTEST_MS + LONGEST_MS) / 2);
});

test("the delay requested by the server is a minimum, with jitter on top", () => {
  assert.equal(delay(0, 0, 7_000), 7_000);
  assert.equal(delay(0, 0.5, 7_000), 7_250);
  assert.equal(delay(100, ALMOST_ONE, 1_000) > 19_000, true);
});

test("the delay that a server can request is bounded", () => {
  assert.ok(delay(0, ALMOST_ONE, 1e12) <= LONGEST_STATED_MS + SHORTEST_MS);
  assert.equal(delay(0, 0.5, -5), 0);
});

test("the retry count is reset after five stable seconds", () => {
  assert.equal(triesAfterLoss(4, 4_999), 4);
  assert.equal(triesAfterLoss(4, 5_000), 0);
  assert.equal(triesAfterLoss(4, 0), 4);
});
