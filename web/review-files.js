// @ts-check
/**
 * Decides which files of a folder are reviewed, and why the others are not. This module performs no I/O.
 */

import { numbered } from "./diff.js";

/** @typedef {import("./diff.js").FileDiff} FileDiff */
/** @typedef {{name: string, code: string, diff: boolean}} Source the code of a file; of a diff, the numbered lines */

/** The maximum number of files in a review. A socket of the standard has 32 lanes. */
export const MAX_FILES = 30;
/** The maximum size of a file, and of all files of a review, in bytes. */
export const MAX_FILE_BYTES = 200_000;
export const MAX_REVIEW_BYTES = 1_000_000;
/** The maximum number of files and folders that are examined in a dropped folder. */
export const MAX_EXAMINED = 2_000;

const FOLDERS = new Set((
  ".git .hg .svn node_modules bower_components __pycache__ .venv venv .tox .mypy_cache .pytest_cache .ruff_cache " +
  ".gradle .idea .vscode .cache .next .nuxt dist build out target coverage vendor"
).split(" "));
const LOCKS = /(?:^|[.-])lock(?:\.json|\.ya?ml|b)?$|^go\.sum$|^npm-shrinkwrap\.json$/i;
const GENERATED = /\.min\.(?:js|css|mjs)$|\.(?:map|snap)$/i;
const SECRETS = /^\.env(?:\..+)?$|\.(?:pem|key|p12|pfx|keystore|jks)$|^id_(?:rsa|dsa|ecdsa|ed25519)$|^\.(?:netrc|npmrc|pypirc)$/i;
const BINARY = /\.(?:png|jpe?g|gif|webp|avif|ico|bmp|tiff?|pdf|zip|gz|tgz|bz2|xz|7z|rar|jar|war|class|o|a|so|dll|exe|dylib|wasm|pyc|woff2?|ttf|otf|eot|mp[34]|m4a|ogg|wav|webm|mov|avi|sqlite3?|db|bin|dat|parquet|DS_Store)$/i;

/** Returns why a folder is skipped, or "". @param {string} name */
export const skippedFolder = (name) => (FOLDERS.has(name) ? `in ${name}/` : "");

/** Returns why a file is skipped, by its path and size, or "". @param {string} path @param {number} size */
export function skippedFile(path, size) {
  const folders = path.split("/");
  const name = folders.pop() ?? "";
  const folder = folders.map(skippedFolder).find(Boolean);
  if (folder) return folder;
  if (SECRETS.test(name)) return "may contain secrets";
  if (LOCKS.test(name)) return "lock file";
  if (GENERATED.test(name)) return "generated";
  if (BINARY.test(name)) return "not text";
  if (size === 0) return "empty";
  if (size > MAX_FILE_BYTES) return `larger than ${MAX_FILE_BYTES / 1_000} KB`;
  return "";
}

/** @type {Readonly<Record<string, string>>} */
const UNREVIEWED = { deleted: "deleted", renamed: "renamed only", binary: "not text", mode: "mode changed only" };

/**
 * Returns the files of a diff to review, and why its other files are not reviewed.
 * @param {FileDiff[]} files
 * @returns {{sources: Source[], skipped: Skipped}}
 */
export function fromDiff(files) {
  const skipped = new Skipped();
  /** @type {Source[]} */
  const sources = [];
  for (const { name, change, lines } of files) {
    const code = numbered(lines);
    const why = UNREVIEWED[change] ?? (lines.length === 0 ? "no changed lines" : sizeOf(code) > MAX_FILE_BYTES ? `larger than ${MAX_FILE_BYTES / 1_000} KB` : skippedFile(name, 1));
    if (why) skipped.add(why, name);
    else sources.push({ name, code, diff: true });
  }
  return { sources, skipped };
}

/**
 * Lists each file once. If several diffs change a file, its changes are combined. A file whose changes are reviewed is not
 * also reviewed as a whole.
 * @param {readonly Source[]} sources @param {Skipped} skipped @returns {Source[]}
 */
export function once(sources, skipped) {
  /** @type {Map<string, Source>} */
  const changed = new Map();
  for (const { name, code, diff } of sources) {
    if (!diff) continue;
    const before = changed.get(name);
    if (!before) changed.set(name, { name, code, diff });
    else if (sizeOf(before.code) + sizeOf(code) >= MAX_FILE_BYTES) skipped.add(`larger than ${MAX_FILE_BYTES / 1_000} KB together with its other changes`, name);
    else before.code += `\n${code}`;
  }
  const names = [...changed.keys()];
  /** @type {Source[]} */
  const found = [];
  for (const source of sources) {
    // The path of a file begins with the dropped folder, which the name in a diff does not contain.
    if (!source.diff && names.some((name) => `/${source.name}`.endsWith(`/${name}`))) skipped.add("only its changes in a diff are reviewed", source.name);
    else if (!source.diff) found.push(source);
    else if (changed.has(source.name)) {
      found.push(/** @type {Source} */ (changed.get(source.name)));
      changed.delete(source.name);
    }
  }
  return found;
}

/** Divides sources into those that fit into one review, and the others.
 * @param {readonly Source[]} sources @returns {{fitting: Source[], others: Source[]}}
 */
export function fit(sources) {
  /** @type {Source[]} */
  const fitting = [];
  /** @type {Source[]} */
  const others = [];
  let bytes = 0;
  for (const source of sources) {
    const size = sizeOf(source.code);
    const fits = fitting.length < MAX_FILES && bytes + size <= MAX_REVIEW_BYTES;
    (fits ? fitting : others).push(source);
    if (fits) bytes += size;
  }
  return { fitting, others };
}

const encoder = new TextEncoder();

/** Returns the size of code in bytes. @param {string} code */
export const sizeOf = (code) => encoder.encode(code).length;

/** The number of names that are listed for each reason. */
const NAMED = 3;

/** Counts the files that are not reviewed, by reason. */
export class Skipped {
  /** @type {Map<string, {names: string[], count: number}>} */
  reasons = new Map();

  /** Adds a file. @param {string} why @param {string} name */
  add(why, name) {
    const entry = this.reasons.get(why) ?? { names: [], count: 0 };
    entry.count += 1;
    if (entry.names.length < NAMED) entry.names.push(name);
    this.reasons.set(why, entry);
  }

  /** Adds the files of another count. @param {Skipped} others */
  addAll(others) {
    for (const [why, { names, count }] of others.reasons) {
      for (const name of names) this.add(why, name);
      const entry = this.reasons.get(why);
      if (entry) entry.count += count - names.length;
    }
  }

  /** Returns a line for each reason, for example "lock file: a, b and 3 more". */
  lines() {
    return [...this.reasons].map(([why, { names, count }]) => {
      const more = count > names.length ? ` and ${count - names.length} more` : "";
      return `${why}: ${names.join(", ")}${more}`;
    });
  }
}
