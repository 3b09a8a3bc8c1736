import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { numbered, numberedLines, parseDiff } from "../../web/diff.js";
import { fromDiff } from "../../web/review-files.js";

/** Runs git in a new repository. */
function repository() {
  const folder = mkdtempSync(join(tmpdir(), "diff-"));
  const git = (...args) => {
    try {
      return execFileSync("git", ["-C", folder, "-c", "user.name=a", "-c", "user.email=a@example.org", ...args], { encoding: "utf8", stdio: "pipe" });
    } catch (error) {
      return error.stdout; // a merge with conflicts ends with status 1
    }
  };
  git("init", "-q", "-b", "main");
  return { git, folder, write: (name, text) => writeFileSync(join(folder, name), text), end: () => rmSync(folder, { recursive: true }) };
}

const lines = (count, from = 1) => Array.from({ length: count }, (_, n) => `line ${n + from}\n`).join("");
/** Files with different contents, so that git detects the right renames. */
const start = (name) => 100 * name.charCodeAt(0) + name.length;
const shape = (files) => files.map(({ name, change, lines: all }) => [name, change, all.filter(({ kind }) => kind === "+").map(({ number }) => number)]);

test("real diffs of git are parsed: changed, added, deleted, renamed, binary, mode, without a newline at the end", () => {
  const { git, folder, write, end } = repository();
  for (const name of ["a.txt", "old name.txt", "moved.txt", "gone.txt", "mode.sh", "end.txt"]) write(name, lines(20, start(name)));
  write("image.png", Buffer.from([0, 1, 2]));
  write("crlf.txt", "one\r\ntwo\r\n");
  git("add", "-A");
  git("commit", "-qm", "1");
  write("a.txt", `-- x\n${lines(9, start("a.txt"))}++ y\n${lines(10, start("a.txt") + 10)}more`);
  renameSync(join(folder, "old name.txt"), join(folder, "new name.txt"));
  renameSync(join(folder, "moved.txt"), join(folder, "größe \"q\".txt"));
  write("größe \"q\".txt", `${lines(20, start("moved.txt"))}last\n`);
  rmSync(join(folder, "gone.txt"));
  write("fresh.txt", "a\nb");
  write("end.txt", lines(20, start("end.txt")).trimEnd());
  write("image.png", Buffer.from([0, 2, 3]));
  write("crlf.txt", "one\r\n2\r\n");
  write("empty.txt", "");
  git("update-index", "--chmod=+x", "mode.sh");
  git("add", "-A");
  git("update-index", "--chmod=+x", "mode.sh");
  const expected = [
    ["a.txt", "changed", [1, 11, 22]], ["crlf.txt", "changed", [2]], ["empty.txt", "added", []], ["end.txt", "changed", [20]],
    ["fresh.txt", "added", [1, 2]], ["gone.txt", "deleted", []], ["größe \"q\".txt", "changed", [21]], ["image.png", "binary", []],
    ["mode.sh", "mode", []], ["new name.txt", "renamed", []],
  ];
  for (const how of [[], ["-U0"], ["-U50"], ["--binary"], ["--src-prefix=i/", "--dst-prefix=w/"], ["-c", "core.quotePath=false"]]) {
    const text = git(...(how[0] === "-c" ? how : []), "diff", "--cached", "-M", ...(how[0] === "-c" ? [] : how));
    const found = shape(parseDiff(text)).sort(([a], [b]) => (a < b ? -1 : 1));
    assert.deepEqual(found, expected, how.join(" "));
    assert.deepEqual(shape(parseDiff(text.replace(/\n/g, "\r\n"))).sort(([a], [b]) => (a < b ? -1 : 1)), expected, `CRLF ${how}`);
  }
  git("commit", "-qm", "2");
  const mail = git("format-patch", "--stdout", "-1", "-M");
  assert.deepEqual(shape(parseDiff(mail)).sort(([a], [b]) => (a < b ? -1 : 1)), expected, "a mail");
  const { sources, skipped } = fromDiff(parseDiff(mail));
  assert.deepEqual(sources.map(({ name }) => name).sort(), ["a.txt", "crlf.txt", "end.txt", "fresh.txt", "größe \"q\".txt"]);
  assert.deepEqual(skipped.lines().sort(), ["deleted: gone.txt", "mode changed only: mode.sh", "no changed lines: empty.txt", "not text: image.png", "renamed only: new name.txt"]);
  end();
});

test("the new lines of a hunk have the numbers and texts of the new file", () => {
  const { git, write, end } = repository();
  const before = lines(60);
  const after = before.replace("line 5\n", "").replace("line 30\n", "x\ny\n").replace("line 60\n", "line 60");
  write("a", before);
  git("add", "-A");
  write("a", after);
  for (const context of ["0", "1", "3", "99"]) {
    const [file] = parseDiff(git("diff", `-U${context}`));
    for (const { number, text, kind } of file.lines) if (number !== null) assert.equal(text, after.split("\n")[number - 1], kind);
    assert.deepEqual(file.lines.filter(({ kind }) => kind === "-").map(({ text }) => text), ["line 5", "line 30", "line 60"]);
    assert.deepEqual(numberedLines(numbered(file.lines)), file.lines);
  }
  end();
});

test("a combined diff of a merge is parsed, and the file after it too", () => {
  const { git, write, end } = repository();
  write("a", lines(10));
  git("add", "-A");
  git("commit", "-qm", "1");
  git("checkout", "-qb", "other");
  write("a", lines(10).replace("line 3", "theirs"));
  git("commit", "-qam", "2");
  git("checkout", "-q", "main");
  write("a", lines(10).replace("line 3", "ours"));
  git("commit", "-qam", "3");
  git("merge", "other");
  write("a", lines(10).replace("line 3", "both\nof them"));
  const text = git("diff");
  assert.match(text, /^@@@ /m);
  const [file, next] = parseDiff(`${text}diff --git a/b b/b\n--- a/b\n+++ b/b\n@@ -1 +1 @@\n-x\n+y\n`);
  assert.deepEqual(file.lines.filter(({ kind }) => kind === "+").map(({ number, text: added }) => [number, added]), [[3, "both"], [4, "of them"]]);
  assert.deepEqual(file.lines.filter(({ kind }) => kind === "-").map(({ text: removed }) => removed), ["ours", "theirs"]);
  assert.deepEqual([next.name, next.lines.length], ["b", 3]);
  end();
});

test("diffs of other programs and damaged ones are parsed as far as possible", () => {
  const plain = "--- old/a.c\t2026-01-01 10:00:00\n+++ new/a.c\t2026-01-02 10:00:00\n@@ -1,2 +1,2 @@\n x\n-y\n+z\n--- b.c\n+++ b.c\n@@ -0,0 +1 @@\n+new\n";
  assert.deepEqual(shape(parseDiff(plain)), [["new/a.c", "changed", [2]], ["b.c", "changed", [1]]]);
  const cut = "diff --git a/a b/a\n--- a/a\n+++ b/a\n@@ -1,9 +1,9 @@\n x\n+y";
  assert.deepEqual(shape(parseDiff(cut)), [["a", "changed", [2]]]);
  const stripped = "--- a\n+++ a\n@@ -1,3 +1,4 @@\n x\n\n+y\n z\n"; // an editor has removed the blank of an empty line
  assert.deepEqual(shape(parseDiff(stripped)), [["a", "changed", [3]]]);
  const wrong = "--- a\n+++ a\n@@ -1,9 +1,9 @@\n x\nSome prose.\n--- b\n+++ b\n@@ -1 +1 @@\n-x\n+y\n";
  assert.deepEqual(shape(parseDiff(wrong)), [["a", "changed", []], ["b", "changed", [1]]]);
  for (const none of ["", "x = 1", "--- a\n+++ b\n", "@@ nothing @@", "a\n--- \n+++ \n"]) assert.equal(parseDiff(none), null, none);
  assert.equal(parseDiff("@@ -1 +1 @@\n-a\n+b"), null); // the file is unknown
});

test("any text is either no numbered diff or is reversed exactly", () => {
  assert.equal(numberedLines("def f():\n    return 1"), null);
  assert.equal(numberedLines("     1  x\nnot a line"), null);
  const odd = [{ kind: "+", number: 1234567, text: "" }, { kind: "-", number: null, text: "- x" }, { kind: "@", number: null, text: "@@ -1 +1 @@" }, { kind: " ", number: 3, text: "\t" }];
  assert.deepEqual(numberedLines(numbered(odd)), odd);
});
