import assert from "node:assert/strict";
import { test } from "node:test";

import { countsText, countBySeverity, markdownOf, reviewOf } from "../../web/review-comments.js";
import { fit, MAX_FILES, MAX_REVIEW_BYTES, Skipped, skippedFile } from "../../web/review-files.js";

const ANSWER = `# A review

Hello.

## Improvements

- L1 (low): Name it
  more of it

  a paragraph
- no line
1. **L2-3 (HIGH):** bold
* \`L7\`: code
- [L8] – dash

## Complexity

Flat.

| a | b |
|---|---|
| L9 | x |

## Bugs

- Line 4: the default
- lines 5 to 6 (medium) no colon

  \`\`\`py
  - L9: inside code
  \`\`\`
- L10: (high) after the colon
- L11: high memory use

A closing sentence.
- L12abc no line
`;

test("the points of a review that begin with a line are comments, in the forms that models use", () => {
  const { comments, rest } = reviewOf(ANSWER, false);
  assert.deepEqual(comments.map(({ first, last, severity, section, text }) => [first, last, severity, section, text.split("\n")[0]]), [
    [1, 1, "low", "improvements", "Name it"], [2, 3, "high", "improvements", "bold"], [7, 7, "low", "improvements", "code"],
    [8, 8, "low", "improvements", "dash"], [4, 4, "medium", "bugs", "the default"], [5, 6, "medium", "bugs", "no colon"],
    [10, 10, "high", "bugs", "after the colon"], [11, 11, "medium", "bugs", "high memory use"],
  ]);
  assert.equal(comments[0].text, "Name it\nmore of it\n\na paragraph");
  assert.equal(comments[5].text, "no colon\n\n```py\n- L9: inside code\n```");
  assert.equal(rest.improvements.trim(), "- no line");
  assert.match(rest.complexity, /^\s*Flat\.[^]*\| L9 \| x \|\s*$/);
  assert.equal(rest.bugs.trim(), "A closing sentence.\n- L12abc no line");
});

test("at each length of a growing answer, comments only grow, and nothing is shown and taken back", () => {
  let before = reviewOf("", true);
  for (let cut = 1; cut <= ANSWER.length; cut++) {
    const now = reviewOf(ANSWER.slice(0, cut), true);
    for (const [index, comment] of before.comments.entries()) {
      const { text, ...head } = now.comments[index];
      const { text: shown, ...shownHead } = comment;
      assert.deepEqual(head, shownHead, `at ${cut}`);
      assert.ok(text.startsWith(shown), `at ${cut}: ${shown} / ${text}`);
    }
    for (const [section, text] of Object.entries(now.rest)) assert.ok(text.startsWith(before.rest[section].trimEnd()), `${section} at ${cut}`);
    before = now;
  }
  assert.deepEqual(reviewOf(ANSWER, true).comments, reviewOf(ANSWER, false).comments);
});

test("a review without sections or with hostile lines is read", () => {
  assert.equal(reviewOf("- L5: x", false).comments[0].section, "preface");
  assert.deepEqual(reviewOf("- L0: x\n- L: y\n- L1234567: z", false).comments, []);
  assert.deepEqual(reviewOf("- L9-3: x", false).comments.map(({ first, last }) => [first, last]), [[9, 9]]);
  const long = `## Bugs\n\n${"- L1: x\n".repeat(20_000)}`;
  const begun = performance.now();
  assert.equal(reviewOf(long, false).comments.length, 20_000);
  assert.ok(performance.now() - begun < 2_000);
});

test("a review is exported as Markdown with file, line and severity", () => {
  const text = "# A review\n\nHi.\n\n## Improvements\n\nNone.\n\n## Complexity\n\nFlat.\n\n## Bugs\n\n- L9 (high): b\n  c\n- L2: a\n";
  assert.equal(markdownOf([{ name: "a_b*.py", text, status: "" }, { name: "", text: "", status: "Stopped." }]), `# Code review

2 files, 2 comments: 1 high, 1 medium.

## a\\_b\\*.py

- L2 **medium**: a
- L9 **high**: b
  c

Hi.

### Improvements

None.

### Complexity

Flat.

## Code

*Stopped.*
`);
  assert.equal(countsText(countBySeverity([])), "no comments");
});

test("files that are not worth a review are skipped by their names, each with its reason", () => {
  const reasons = {
    "a/node_modules/b/c.js": "in node_modules/", ".git/config": "in .git/", "package-lock.json": "lock file", "a/yarn.lock": "lock file",
    "pnpm-lock.yaml": "lock file", "Cargo.lock": "lock file", "go.sum": "lock file", "uv.lock": "lock file", "bun.lockb": "lock file",
    "x.min.js": "generated", "logo.PNG": "not text", ".env": "may contain secrets", ".env.local": "may contain secrets",
    "id_rsa": "may contain secrets", "a.pem": "may contain secrets",
    "src/a.py": "", "block.py": "", "lock.js": "", "clock.json": "", "key.go": "", "building/a.c": "", "env.py": "",
  };
  for (const [path, reason] of Object.entries(reasons)) assert.equal(skippedFile(path, 9), reason, path);
  assert.equal(skippedFile("a.py", 0), "empty");
  assert.equal(skippedFile("a.py", 200_001), "larger than 200 KB");
  const skipped = new Skipped();
  const other = new Skipped();
  for (const name of "abcde") other.add("lock file", name);
  skipped.addAll(other);
  assert.deepEqual(skipped.lines(), ["lock file: a, b, c and 2 more"]);
});

test("a review has a maximum number of files and of bytes", () => {
  const source = (size) => ({ name: "a", code: "x".repeat(size), diff: false });
  assert.equal(fit(Array.from({ length: 40 }, () => source(1))).fitting.length, MAX_FILES);
  const { fitting, others } = fit([source(MAX_REVIEW_BYTES - 1), source(2), source(1)]);
  assert.deepEqual([fitting.length, others.length], [2, 1]);
});
