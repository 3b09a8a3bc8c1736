import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { address, decoded, destination } from "../../web/links.js";

const { links } = JSON.parse(readFileSync(new URL("../vectors/hostile.json", import.meta.url)));

test("a link leads to a web page, a mailbox or a telephone, and nowhere else", () => {
  for (const good of ["https://a.example/b?c#d", "http://a.example", "mailto:a@b.example", "tel:+1234", "HTTPS://A.example"]) {
    assert.notEqual(address(good), null, good);
  }
  for (const bad of links) assert.equal(address(bad), null, bad);
});

test("the host of a link is shown, unless its text names it", () => {
  const shown = (href, text) => destination(address(href), text);
  assert.equal(shown("https://a.example/x", "https://a.example/x"), "");
  assert.equal(shown("https://a.example/x", "a.example"), "");
  assert.equal(shown("https://evil.example/x", "click here"), "evil.example");
  assert.equal(shown("https://evil.example/a.example", "https://a.example"), "evil.example");
  assert.equal(shown("https://evil.example", "good.example or evil.example"), "evil.example");
  assert.equal(shown("https://аpple.example", "аpple.example"), "xn--pple-43d.example");
  assert.equal(shown("mailto:a@b.example", "write"), "a@b.example");
});

test("entities are decoded, and unknown ones are unchanged", () => {
  assert.equal(decoded("a &lt;b&gt; &amp;amp; &#65;&#x42; &hellip;"), "a <b> &amp; AB …");
  assert.equal(decoded("&nosuch; & &; &#xd800; &#0; &toString;"), "&nosuch; & &; \ufffd \ufffd &toString;");
});
