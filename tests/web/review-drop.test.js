import assert from "node:assert/strict";
import { test } from "node:test";

import { droppedFiles, sourcesOf, toSources } from "../../web/review-drop.js";
import { Skipped } from "../../web/review-files.js";

const file = (path, text = "x") => ({
  isDirectory: false, name: path.split("/").at(-1), fullPath: path, file: (done) => done(new File([text], path.split("/").at(-1))),
});
/** A folder, whose entries a browser returns in batches. */
const folder = (path, entries) => ({
  isDirectory: true, name: path.split("/").at(-1), fullPath: path,
  createReader: () => {
    const batches = [entries.slice(0, 2), entries.slice(2), []].filter((batch, index) => batch.length > 0 || index === 2);
    return { readEntries: (done) => done(batches.shift() ?? []) };
  },
});
const transfer = (...entries) => ({
  items: entries.map((entry) => ({
    kind: "file", webkitGetAsEntry: () => entry, getAsFile: () => new File(["x"], entry.name),
  })),
});

test("a dropped folder is read with its folders, without those that are skipped", async () => {
  const skipped = new Skipped();
  const unread = { ...folder("/top/node_modules", []), createReader: () => assert.fail("must not be read") };
  const found = await droppedFiles(transfer(
    folder("/top", [file("/top/b.py"), unread, folder("/top/src", [file("/top/src/a.py")]), file("/top/yarn.lock")]), file("/one.py"),
  ), skipped);
  assert.deepEqual(found.map(({ path }) => path), ["top/b.py", "top/src/a.py", "top/yarn.lock", "one.py"]);
  assert.deepEqual(skipped.lines(), ["in node_modules/: top/node_modules"]);
  const sources = await sourcesOf(found, skipped);
  assert.deepEqual(sources.map(({ name }) => name), ["one.py", "top/b.py", "top/src/a.py"]);
  assert.deepEqual(skipped.lines(), ["in node_modules/: top/node_modules", "lock file: top/yarn.lock"]);
});

test("huge and endless folders are read up to a limit", async () => {
  const many = folder("/top", Array.from({ length: 2_500 }, (_, n) => file(`/top/${n}.py`)));
  const skipped = new Skipped();
  const found = await droppedFiles(transfer(many), skipped);
  assert.equal(found.length, 2_000);
  assert.deepEqual(skipped.lines(), ["beyond the first 2000 files and folders: top"]);
  assert.equal((await sourcesOf(found, skipped)).length, 200);
  const endless = { ...folder("/top/a", []), createReader: () => ({ readEntries: (done) => done([endless]) }) };
  const deep = new Skipped();
  assert.deepEqual(await droppedFiles(transfer(endless), deep), []);
  assert.match(deep.lines()[0], /^in too many folders: /);
});

test("a file that cannot be read is skipped, and a diff among files becomes its files", async () => {
  const skipped = new Skipped();
  const broken = { path: "a.py", file: { name: "a.py", size: 1, arrayBuffer: () => Promise.reject(new Error("gone")) } };
  const patch = { path: "b.patch", file: new File(["--- x\n+++ x\n@@ -1 +1 @@\r\n-a\r\n+b\r\n"], "b.patch") };
  const sources = await sourcesOf([broken, patch], skipped);
  assert.deepEqual(sources, [{ name: "x", code: "@@ -1 +1 @@\n       -a\n     1 +b", diff: true }]);
  assert.deepEqual(skipped.lines(), ["not text: a.py"]);
});

/** Returns a found file with this content. */
const holding = (path, ...lines) => ({ path, file: new File([`${lines.join("\n")}\n`], path) });
/** The lines of a diff that changes a file. */
const changing = (name, text) => [`--- a/${name}`, `+++ b/${name}`, "@@ -1 +1 @@", "-x", `+${text}`];

test("a file of a folder that a diff in the folder changes is listed once", async () => {
  const skipped = new Skipped();
  const sources = await sourcesOf([
    holding("top/src/a.py", "x"), holding("top/ba.py", "x"), holding("top/change.diff", ...changing("src/a.py", "y"), ...changing("a.py", "z")),
  ], skipped);
  assert.deepEqual(sources.map(({ name, diff }) => [name, diff]), [["top/ba.py", false], ["src/a.py", true], ["a.py", true]]);
  assert.deepEqual(skipped.lines(), ["only its changes in a diff are reviewed: top/src/a.py"]);
});

test("a file that several diffs change is listed once with all changes", async () => {
  const skipped = new Skipped();
  const sources = await sourcesOf([holding("1.patch", ...changing("a.py", "y"), ...changing("a.py", "z")), holding("2.patch", ...changing("a.py", "w"))], skipped);
  assert.deepEqual(sources.map(({ name }) => name), ["a.py"]);
  assert.deepEqual(sources[0]?.code.match(/\+[a-z]/g), ["+y", "+z", "+w"]);
  const large = "y".repeat(150_000);
  const cut = await sourcesOf([holding("1.patch", ...changing("b.py", large)), holding("2.patch", ...changing("b.py", large))], skipped);
  assert.deepEqual(cut.map(({ name }) => name), ["b.py"]);
  assert.deepEqual(skipped.lines(), ["larger than 200 KB together with its other changes: b.py"]);
});

test("pasted text is a diff only if it has hunks", () => {
  const skipped = new Skipped();
  assert.deepEqual(toSources("\n\nx = 1\r\n\n", "", skipped), [{ name: "", code: "x = 1", diff: false }]);
  assert.deepEqual(toSources(" \n", "", skipped), []);
});
