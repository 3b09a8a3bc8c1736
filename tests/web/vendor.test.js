import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";

const VENDOR = new URL("../../web/vendor/", import.meta.url);

const rows = readFileSync(new URL("VERSIONS", VENDOR), "utf8").split("\n")
  .filter((line) => line !== "" && !line.startsWith("#")).map((line) => line.split(" "));

test("each vendored file equals its published version", () => {
  for (const [name, version, licence, file, hash] of rows) {
    const digest = createHash("sha512").update(readFileSync(new URL(file, VENDOR))).digest("base64");
    assert.equal(`sha512-${digest}`, hash, file);
    assert.match(`${name} ${version} ${licence}`, /^@?[\w/-]+ \d+\.\d+\.\d+ (MIT|BSD-3-Clause)$/);
  }
});

test("every vendored file is listed, and each package has its licence", () => {
  const listed = rows.map(([, , , file]) => file);
  const there = readdirSync(VENDOR, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !/\.d\.m?ts$/.test(entry.name) && entry.name !== "VERSIONS")
    .map((entry) => `${entry.parentPath ?? entry.path}/${entry.name}`.split("/vendor/")[1].replace(/^\/+/, "").replace("//", "/"));
  assert.deepEqual(there.sort(), listed.sort());
  for (const folder of new Set(listed.map((file) => file.split("/")[0]))) assert.ok(listed.includes(`${folder}/LICENSE`));
});
