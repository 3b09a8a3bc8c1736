import assert from "node:assert/strict";
import { test } from "node:test";

import { textOf } from "../../web/file-text.js";

const latin = (text) => Uint8Array.from(text, (character) => character.charCodeAt(0));
const utf16 = (text, big) => Uint8Array.from([...text].flatMap((character) => {
  const [low, high] = [character.charCodeAt(0) & 255, character.charCodeAt(0) >> 8];
  return big ? [high, low] : [low, high];
}));
const utf8 = (text) => new TextEncoder().encode(text);

const CASES = [
  ["UTF-8", utf8("é = '中文'"), "é = '中文'"],
  ["UTF-8 with its mark", utf8("\ufeffa = 'é'"), "a = 'é'"],
  ["UTF-16 with its mark", utf16("\ufeffa = 'é中'"), "a = 'é中'"],
  ["UTF-16, the other way round", utf16("\ufeffa = 'é中'", true), "a = 'é中'"],
  ["UTF-16 without a mark", utf16("a = 'é'\n"), "a = 'é'\n"],
  ["Windows-1252, not declared", latin("name = 'Stra\xdfe'"), "name = 'Straße'"],
  ["latin-1, declared as Python does", latin("# -*- coding: latin-1 -*-\nx = '\xe9\xe9\xe9\xe9\xe9'"), "# -*- coding: latin-1 -*-\nx = 'ééééé'"],
  ["KOI8-R, declared as XML does", latin("<?xml version='1.0' encoding='koi8-r'?><a>\xf0\xd2\xc9\xd7\xc5\xd4</a>"),
    "<?xml version='1.0' encoding='koi8-r'?><a>Привет</a>"],
  ["Shift JIS, declared as HTML does", latin("<meta charset=\"shift_jis\">\x93\xfa\x96\x7b"), "<meta charset=\"shift_jis\">日本"],
  ["KOI8-R, not declared", latin("// \xf0\xd2\xc9\xd7\xc5\xd4"), null],
  ["an encoding that no browser knows", latin("# coding: klingon\n\xe9"), null],
  ["a declaration that is wrong", latin("# coding: shift_jis\n\xa0\xff"), null],
  ["no text", Uint8Array.from([0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10, 0, 0, 0, 13]), null],
  ["an empty file", new Uint8Array(), ""],
];

for (const [name, bytes, text] of CASES) test(`the text of a file: ${name}`, () => assert.equal(textOf(bytes), text));
