// @ts-check
/**
 * Parses unified diffs of git and other programs, including combined diffs of merges. This module performs no I/O.
 *
 * The lines of a hunk are counted as its header states, so a removed line `-- x`, which looks like a file header, is a
 * line of the hunk, and the text of a mail before and after the diff is ignored.
 */

/** @typedef {{kind: " " | "+" | "-" | "@", number: number | null, text: string}} DiffLine `number` is the line number in the new file; "@" is the header of a hunk */
/** @typedef {"changed" | "added" | "deleted" | "renamed" | "binary" | "mode"} Change `renamed` and `mode`: the content has not changed */
/** @typedef {{name: string, change: Change, lines: DiffLine[]}} FileDiff */

const GIT = /^diff --git (.*)$/;
const COMBINED = /^diff --(?:cc|combined) (.*)$/;
const HUNK = /^@@ -\d+(?:,(\d+))? \+(\d+)(?:,(\d+))? @@/;
const COMBINED_HUNK = /^(@{3,16})((?: -\d+(?:,\d+)?)+) \+(\d+)(?:,(\d+))? @{3,16}/;
/** A sign that a text is a diff: the header of a hunk, or of a file without one. */
const SIGN = /^(?:@@ -\d+(?:,\d+)? \+\d+(?:,\d+)? @@|@@@+ -\d|diff --(?:git|cc|combined) )/m;

/** Returns the files of a diff, or null if the text is not a diff. @param {string} text @returns {FileDiff[] | null} */
export function parseDiff(text) {
  if (!SIGN.test(text)) return null;
  const lines = text.split("\n").map((line) => line.replace(/\r$/, ""));
  /** @type {FileDiff[]} */
  const files = [];
  /** @type {FileDiff | undefined} */
  let file;
  let oldName = "";
  for (let at = 0; at < lines.length;) {
    const line = lines[at] ?? "";
    const header = GIT.exec(line) ?? COMBINED.exec(line);
    if (header) {
      const name = GIT.test(line) ? nameInHeader(header[1] ?? "") : unquoted(header[1] ?? "");
      files.push((file = { name, change: "changed", lines: [] }));
    } else if (line.startsWith("--- ") && /^\+\+\+ /.test(lines[at + 1] ?? "")) {
      oldName = nameIn(line);
      const newName = nameIn(lines[at + 1] ?? "");
      const name = newName === "/dev/null" ? oldName : newName;
      // A diff without a line `diff --git` begins each file here.
      if (!file || file.lines.length > 0) files.push((file = { name, change: "changed", lines: [] }));
      file.name = name;
      if (newName === "/dev/null") file.change = "deleted";
      else if (oldName === "/dev/null") file.change = "added";
      at += 1;
    } else if (file && (HUNK.test(line) || COMBINED_HUNK.test(line))) {
      at = readHunk(lines, at, file);
      continue;
    } else if (file && file.lines.length === 0) readExtended(line, file);
    at += 1;
  }
  for (const one of files) {
    // A file with changed lines is "changed", even if it has also been renamed.
    if (one.lines.length > 0 && (one.change === "renamed" || one.change === "mode")) one.change = "changed";
  }
  return files.length > 0 ? files : null;
}

/** Reads an extended header line of git. @param {string} line @param {FileDiff} file */
function readExtended(line, file) {
  if (line.startsWith("new file mode ")) file.change = "added";
  else if (line.startsWith("deleted file mode ")) file.change = "deleted";
  else if (line.startsWith("new mode ")) file.change = "mode";
  else if (/^(?:rename|copy) to /.test(line)) {
    file.name = unquoted(line.replace(/^(?:rename|copy) to /, ""));
    file.change = "renamed";
  } else if (/^(?:Binary files .* differ|GIT binary patch)$/.test(line)) file.change = "binary";
}

/** Reads a hunk into a file, and returns the index of the line after the hunk.
 * @param {string[]} lines @param {number} at the index of the header @param {FileDiff} file
 */
function readHunk(lines, at, file) {
  const header = lines[at] ?? "";
  const combined = COMBINED_HUNK.exec(header);
  const simple = HUNK.exec(header);
  const parents = combined ? (combined[1] ?? "").length - 1 : 1;
  let number = Number(combined ? combined[3] : simple?.[2]);
  let added = Number((combined ? combined[4] : simple?.[3]) ?? 1);
  const old = combined ? [...(combined[2] ?? "").matchAll(/-\d+(?:,(\d+))?/g)].map(([, n]) => Number(n ?? 1)) : [Number(simple?.[1] ?? 1)];
  file.lines.push({ kind: "@", number: null, text: header });
  for (at += 1; at < lines.length && (added > 0 || old.some((left) => left > 0)); at += 1) {
    const line = lines[at] ?? "";
    if (line.startsWith("\\")) continue; // "\ No newline at end of file"
    const signs = (line === "" ? " " : line).slice(0, parents).padEnd(parents);
    if (!/^[ +-]+$/.test(signs)) return at; // the diff is truncated
    const kind = signs.includes("-") ? "-" : signs.includes("+") ? "+" : " ";
    // A line is in a parent if the parent's column does not show the line as added. In a line that is absent from the
    // result, only the columns with a minus count.
    for (let parent = 0; parent < parents; parent += 1) {
      const inParent = kind === "-" ? signs[parent] === "-" : signs[parent] === " ";
      if (inParent) old[parent] = (old[parent] ?? 0) - 1;
    }
    file.lines.push({ kind, number: kind === "-" ? null : number, text: line.slice(parents) });
    if (kind === "-") continue;
    number += 1;
    added -= 1;
  }
  return at;
}

/** Returns the new name in a line `diff --git a/old b/new`. @param {string} names */
function nameInHeader(names) {
  const quotedName = / ("(?:[^"\\]|\\.)*")$/.exec(names);
  if (quotedName) return withoutPrefix(unquoted(quotedName[1] ?? ""));
  // Names may contain spaces. Unless the file was renamed, both names are equal, so the line is divided in its middle.
  const half = names.slice((names.length + 1) / 2);
  const same = names.length % 2 === 1 && names.slice(0, (names.length - 1) / 2).replace(/^\w\//, "") === half.replace(/^\w\//, "");
  return withoutPrefix(same ? half : names.slice(names.lastIndexOf(" ") + 1));
}

/** Returns the name in a line `--- a/name` or `+++ b/name`, without the tab and the time after it. @param {string} line */
function nameIn(line) {
  const name = line.slice(4);
  return withoutPrefix(unquoted(/^"(?:[^"\\]|\\.)*"/.exec(name)?.[0] ?? name.replace(/\t.*$/, "")));
}

/** Removes the prefix of git, which is also i/, w/, c/ or o/ with diff.mnemonicPrefix. @param {string} name */
const withoutPrefix = (name) => name.replace(/^[abiwco]\/(?=.)/, "");

const ESCAPES = /** @type {const} */ ({ n: "\n", t: "\t", r: "\r", a: "\x07", b: "\b", f: "\f", v: "\v" });

/** Decodes a name that git has quoted: octal escapes are bytes of UTF-8. @param {string} name */
function unquoted(name) {
  if (!/^".*"$/.test(name)) return name;
  const bytes = [...name.slice(1, -1).matchAll(/\\([0-3][0-7]{2})|\\(.)|([^\\]+)/gu)].flatMap(([, octal, escaped, plain]) => {
    if (octal) return [Number.parseInt(octal, 8)];
    const text = plain ?? ESCAPES[/** @type {keyof typeof ESCAPES} */ (escaped)] ?? escaped ?? "";
    return [...new TextEncoder().encode(text)];
  });
  return new TextDecoder().decode(Uint8Array.from(bytes));
}

/** The width of the line numbers in a numbered diff. */
const WIDTH = 6;

/**
 * Writes the lines of a diff with their numbers in the new file, because a model counts lines badly.
 * @param {DiffLine[]} lines
 */
export function numbered(lines) {
  return lines.map(({ kind, number, text }) => (kind === "@" ? text : `${String(number ?? "").padStart(WIDTH)} ${kind}${text}`)).join("\n");
}

/** Reverses `numbered`, or returns null if the text is not a numbered diff. @param {string} text @returns {DiffLine[] | null} */
export function numberedLines(text) {
  /** @type {DiffLine[]} */
  const lines = [];
  for (const line of text.split("\n")) {
    const found = /^ *(\d*) ([ +-])(.*)$/.exec(line);
    if (/^@@/.test(line)) lines.push({ kind: "@", number: null, text: line });
    else if (found && line.length > WIDTH && (found[1] === "") === (found[2] === "-")) {
      lines.push({ kind: /** @type {" "} */ (found[2]), number: found[1] ? Number(found[1]) : null, text: found[3] ?? "" });
    } else return null;
  }
  return lines;
}
