import assert from "node:assert/strict";
import { test } from "node:test";

import { texOf } from "../../web/formula.js";
import { inAlphabet } from "../../web/typeset.js";

test("a formula's TeX is what is between its marks", () => {
  assert.deepEqual(texOf("\\(a_1\\)"), { tex: "a_1", display: false });
  assert.deepEqual(texOf("$a$"), { tex: "a", display: false });
  assert.deepEqual(texOf("$$a\\$b$$"), { tex: "a\\$b", display: true });
  assert.deepEqual(texOf("\\[\na \\\\ b\n\\]"), { tex: "\na \\\\ b\n", display: true });
});

test("an unterminated or overlong formula has no TeX", () => {
  for (const written of ["\\(a", "\\[\na", "$$a", "$$a$", "a", `\\(${"x".repeat(2_001)}\\)`]) assert.equal(texOf(written), null);
  assert.notEqual(texOf(`$$${"x".repeat(2_000)}$$`), null);
});

test("math alphabets map to Unicode letters", () => {
  assert.equal(inAlphabet("RZa0", "double-struck"), "ℝℤ𝕒𝟘");
  assert.equal(inAlphabet("LAz", "script"), "ℒ𝒜𝓏");
  assert.equal(inAlphabet("hx", "italic"), "ℎ𝑥");
  assert.equal(inAlphabet("Aα9+", "bold"), "𝐀𝛂𝟗+");
  assert.equal(inAlphabet("gC", "fraktur"), "𝔤ℭ");
  assert.equal(inAlphabet("x", "unknown"), "x");
});
