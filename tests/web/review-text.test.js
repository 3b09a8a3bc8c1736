import assert from "node:assert/strict";
import { test } from "node:test";

import {
  fenced, guess, keyFor, linesAt, nextLines, requestFor, sectionsOf, unfenced,
} from "../../web/review-text.js";

test("any snippet is unfenced unchanged", () => {
  const snippets = ["x = 1", "", "a\n\nb\n", "```\ninner\n```", "text ```` not a fence", "  ````js\n  x\n  ````", "\ttab"];
  for (const code of snippets) {
    for (const language of ["", "python", "c++"]) {
      for (const name of ["", "a.py", "src/a b/c.js"]) {
        assert.deepEqual(unfenced(fenced(code, language, name)), { code, language, name }, JSON.stringify(code));
      }
    }
  }
  assert.deepEqual(unfenced("no fence"), { code: "no fence", language: "", name: "" });
  assert.equal(unfenced(fenced("x", "", "a\n```\u202eb")).name, "a b");
});

test("equal snippets have equal keys, and different snippets different ones", async () => {
  const key = (code, language, model = "m", after = "", name = "") => keyFor(requestFor(code, language, name), model, after);
  const one = await key("x = 1", "python");
  assert.match(one, /^review-[0-9a-f]{64}$/);
  assert.equal(await key("x = 1", "python"), one);
  const others = await Promise.all([
    key("x = 2", "python"), key("x = 1", ""), key("x = 1", "python", "other"), key("x = 1", "python", "m", "resp_1"),
    key("x = 1", "python", "m", "", "a.py"),
  ]);
  assert.equal(new Set([one, ...others]).size, 6);
});

const ANSWER = "# A review\n\nHello.\n\n## Improvements\n\n- L1: a\n\n```md\n## Bugs\n```\n\n## Complexity\n\nflat\n\n## Bugs\n\n- L2: b\n";

test("an answer is split into sections, and headings inside code are ignored", () => {
  const sections = sectionsOf(ANSWER);
  assert.equal(sections.preface.trim(), "# A review\n\nHello.");
  assert.equal(sections.improvements.trim(), "- L1: a\n\n```md\n## Bugs\n```");
  assert.equal(sections.complexity.trim(), "flat");
  assert.equal(sections.bugs.trim(), "- L2: b");
});

test("sections of a partial answer only grow and never mix", () => {
  const whole = sectionsOf(ANSWER);
  for (let cut = 0; cut <= ANSWER.length; cut++) {
    const part = sectionsOf(ANSWER.slice(0, cut));
    assert.equal(Object.values(part).join("").length <= cut, true);
    for (const name of ["complexity", "bugs"]) assert.ok(whole[name].startsWith(part[name]), `${name} at ${cut}`);
  }
});

test("line references are found in the forms that models use", () => {
  const found = (text) => {
    const lines = linesAt(text);
    return lines && [lines.raw, lines.first, lines.last];
  };
  assert.deepEqual(found("L12: x"), ["L12", 12, 12]);
  assert.deepEqual(found("L12-15 x"), ["L12-15", 12, 15]);
  assert.deepEqual(found("L12–L15."), ["L12–L15", 12, 15]);
  assert.deepEqual(found("line 7, x"), ["line 7", 7, 7]);
  assert.deepEqual(found("Lines 3 to 9"), ["Lines 3 to 9", 3, 9]);
  assert.deepEqual(found("L9-3"), ["L9-3", 9, 9]);
  for (const none of ["L0", "Lx", "L12a", "line", "lines of code", "Level 3"]) assert.equal(found(none), null, none);
  assert.equal(nextLines("see L4 and HTML5 and line 6"), 4);
  assert.equal(nextLines("HTML5, URL8"), undefined);
});

test("a language is guessed from the file name or from the code", () => {
  const samples = {
    python: "def f(x):\n    return x\n", javascript: "const a = () => 1;\n", typescript: "interface A {\n  b: string;\n}\n",
    go: "package main\n\nfunc main() {\n}\n", rust: "fn main() {\n    println!(\"x\");\n}\n",
    java: "public class A {\n}\n", c: "#include <stdio.h>\nint main(void) { return 0; }\n",
    cpp: "#include <iostream>\nint main() { std::cout << 1; }\n", bash: "#!/bin/sh\necho x\n",
    sql: "SELECT a FROM b;\n", xml: "<!doctype html>\n<html></html>\n", css: ".a {\n  color: red;\n}\n",
    json: '{"a": 1}\n', yaml: "a: 1\nb:\n  - c\n", php: "<?php echo 1;\n", ruby: "def f(x)\n  puts x\nend\n",
    kotlin: "fun main() {\n  val a = 1\n}\n", csharp: "using System;\nnamespace A {}\n",
  };
  for (const [language, code] of Object.entries(samples)) assert.equal(guess(code), language, language);
  assert.equal(guess("", "a.PY"), "python");
  assert.equal(guess("def f(x):\n  pass", "a.rs"), "rust");
  assert.equal(guess("hello there", ""), "");
});
