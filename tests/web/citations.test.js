import assert from "node:assert/strict";
import { test } from "node:test";

import { cited, unitsOf } from "../../web/citations.js";

test("each mark becomes a footnote at its place", () => {
  assert.equal(cited("Blue. Red.", [[10, 2], [5, 1], [5, 2]]), "Blue.[^§1][^§2] Red.[^§2]");
  assert.equal(cited("Blue.", []), "Blue.");
});

test("a mark in code is left out", () => {
  const text = "a\n```\ncode\n```\nb `c d` e";
  assert.equal(cited(text, [[8, 1], [20, 2], [text.length, 3]]), `${text}[^§3]`);
});

test("positions count characters, and never exceed the text", () => {
  assert.equal(unitsOf("a\u{1F600}b", 2), 3);
  assert.equal(unitsOf("ab", 9), 2);
  assert.equal(unitsOf("\u{1F600}", 9), 2);
});
