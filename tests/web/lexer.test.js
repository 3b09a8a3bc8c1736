import assert from "node:assert/strict";
import { test } from "node:test";

import { lexed } from "../../web/lexer.js";

const flat = (tokens) => tokens.flatMap((token) => {
  const cells = token.type === "table" ? [...token.header, ...token.rows.flat()] : [];
  return [token, ...flat(token.tokens ?? token.items ?? cells)];
});
const formulas = (text, whole = true) => flat(lexed(text, whole).tokens)
  .filter(({ type }) => type === "formula").map((token) => token.text);
const types = (text) => flat(lexed(text, true).tokens).map(({ type }) => type);

const ROOTS = "\\[\nx_1 = \\frac{-b + \\sqrt{b^2 - 4ac}}{2a}, x_2 = \\frac{a_1 * b_1 * c_1}{2}\n\\]";
const MATRIX = "\\[\n\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}, \\{x\\}, a\\,b\n\\]";

const CASES = [
  [`The roots are\n${ROOTS}\nand \\(a_1 + b_1\\) and $$E_k = m_1 * v_1 * 2$$ end.`,
    [ROOTS, "\\(a_1 + b_1\\)", "$$E_k = m_1 * v_1 * 2$$"]],
  [`${MATRIX}\n\n$$f(x)=a*b*c + x_{1}_y_{2}_z$$ and $a_{i}*b_{i}*c$ cost \\$5`,
    [MATRIX, "$$f(x)=a*b*c + x_{1}_y_{2}_z$$", "$a_{i}*b_{i}*c$"]],
  ["\\[\n\\begin{aligned}\na &= b \\\\\n- c\n\n# d\n\\end{aligned}\n\\]\n\nText",
    ["\\[\n\\begin{aligned}\na &= b \\\\\n- c\n\n# d\n\\end{aligned}\n\\]"]],
  ["- One: $x_1$\n- two\n  \\[\n  x\n  - y_1\n  \\]\n- three", ["$x_1$", "\\[\n  x\n  - y_1\n  \\]".replaceAll("\n  ", "\n")]],
  ["# The $x_1*y$\n\n| \\(a_1\\) | $b_1$ |\n|---|---|\n| $$c*d*e$$ | f |", ["$x_1*y$", "\\(a_1\\)", "$b_1$", "$$c*d*e$$"]],
  ["**bold $a*b$ and \\(c**d\\)**", ["$a*b$", "\\(c**d\\)"]],
  ["$2x + 1$, $2^n$ and $10$", ["$2x + 1$", "$2^n$", "$10$"]],
  ["$x \\\\ y$, \\(a \\\\) b\\)", ["$x \\\\ y$", "\\(a \\\\) b\\)"]],
  ["It costs $5 and $6, US$5 or A$6, $5-$6, $5 for one or 6$.", []],
  ["$HOME/bin and $PATH$USER", []],
  ["`$x` and `y$`, `\\(a\\)`", []],
  ["```\n$x$ \\(y\\)\n\\[\nz\n\\]\n```\n\n    $a$", []],
  ["An end \\(a_1 * b_1 * c", ["\\(a_1 * b_1 * c"]],
  ["So\n\\[\na_1 * b_1 * c\n\nText", ["\\[\na_1 * b_1 * c"]],
];

for (const [text, expected] of CASES) {
  test(`formulas as they were written: ${JSON.stringify(text.slice(0, 50))}`, () => {
    assert.deepEqual(formulas(text), expected);
  });
}

test("a display formula is recognized while streaming, at any cut", () => {
  for (const text of [ROOTS, MATRIX]) {
    for (let end = 3; end <= text.length; end += 1) {
      assert.deepEqual(formulas(`So\n${text.slice(0, end)}`, false), [text.slice(0, end).trim()]);
    }
  }
});

test("the texts of all tokens appear in the source in order", () => {
  // Lists are skipped, because `marked` itself drops a space at the start of a list.
  for (const [text] of CASES.filter(([written]) => !written.startsWith("-"))) {
    for (let end = 0; end <= text.length; end += 1) {
      const part = text.slice(0, end);
      assert.equal(lexed(part, false).tokens.map(({ raw }) => raw).join(""), part);
    }
  }
});

test("one tilde is text, and two mark deleted text", () => {
  assert.ok(!types("1~3天，4~6天 H~2~O ~a~ ~/x and ~/y").includes("del"));
  assert.ok(types("~~a 1~3 b~~").includes("del"));
});

test("a text that takes too many steps is shown as plain lines", () => {
  const costly = "*a* b\n".repeat(2_000);
  assert.ok(types("*a* b\n".repeat(20)).includes("em"));
  assert.deepEqual(new Set(types(costly)), new Set(["paragraph", "text", "br"]));
  assert.ok(types(`${costly}\n*a*`).includes("em"));
  assert.ok(types("**bold** and `code` in a paragraph. ".repeat(100)).includes("strong"));
});

test("a table with too many cells is shown as text", () => {
  const table = (columns, rows) => "|a".repeat(columns) + "|\n" + "|-".repeat(columns) + "|\n" + "|\n".repeat(rows);
  assert.ok(types(table(20, 200)).includes("table"));
  assert.ok(!types(table(2_000, 2_000)).includes("table"));
  // The wide table has used all steps, so none are left to search for underlined headings.
  assert.ok(types(`${table(20, 200)}\na\n===`).includes("heading"));
  assert.ok(!types(`${table(2_000, 2_000)}\na\n===`).includes("heading"));
});

test("a paragraph with a word of thousands of characters is plain text", () => {
  const paragraph = (length) => `${"a@".repeat(length / 2)} **b**`;
  assert.ok(types(paragraph(1_000)).includes("strong"));
  assert.ok(!types(paragraph(2_000)).includes("strong"));
});

test("lists and quotes nested deeper than twenty levels are shown as text", () => {
  const levels = (text, type) => types(text).filter((found) => found === type).length;
  assert.equal(levels(`${"> ".repeat(5_000)}a`, "blockquote"), 20);
  assert.equal(levels(`${"- ".repeat(5_000)}a`, "list"), 20);
});
