import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { test } from "node:test";

import { LIST } from "../../web/list-words.js";
import { STATUS } from "../../web/status.js";
import { ENGLISH } from "../../web/words.js";

const places = (text) => (text.match(/\{\w+\}/g) ?? []).sort();
const english = { ...ENGLISH, ...STATUS, ...LIST };
const folder = new URL("../../web/words/", import.meta.url);

for (const file of readdirSync(folder)) {
  test(`${file} says everything, with the same places for values`, async () => {
    const { WORDS } = await import(new URL(file, folder));
    assert.deepEqual(Object.keys(WORDS).sort(), Object.keys(english).sort());
    for (const [name, text] of Object.entries(WORDS)) {
      assert.deepEqual(places(text), places(english[name]), name);
      assert.notEqual(text, "", name);
    }
  });
}

test("no word is in two dictionaries", () => {
  assert.deepEqual([ENGLISH, STATUS, LIST].flatMap(Object.keys).length, Object.keys(english).length);
});
