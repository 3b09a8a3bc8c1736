// @ts-check
/** Reads the files that a user drops or chooses: single files, several files, and folders. */

import { parseDiff } from "./diff.js";
import { textOf } from "./file-text.js";
import { fromDiff, MAX_EXAMINED, once, Skipped, skippedFile, skippedFolder } from "./review-files.js";

/** @typedef {{path: string, file: File}} Found */
/** @typedef {import("./review-files.js").Source} Source */

/** The maximum depth of folders in a dropped folder. */
const MAX_DEPTH = 32;
/** The maximum number of files whose content is read. */
const MAX_READ = 200;

/**
 * Returns the dropped files. Of folders that are skipped, nothing is read.
 * @param {DataTransfer} transfer @param {Skipped} skipped
 * @returns {Promise<Found[]>}
 */
export async function droppedFiles(transfer, skipped) {
  // The browser empties the transfer when the event handler returns, so everything is taken from it before the first wait.
  const items = [...transfer.items].filter(({ kind }) => kind === "file");
  const taken = items.map((item) => ({ entry: item.webkitGetAsEntry?.() ?? null, file: item.getAsFile() }));
  /** @type {Found[]} */
  const found = [];
  const examined = { count: 0 };
  for (const { entry, file } of taken) {
    if (entry?.isDirectory) await walk(/** @type {FileSystemDirectoryEntry} */ (entry), found, skipped, examined, 0);
    else if (file) found.push({ path: file.name, file });
  }
  return found;
}

/** Adds the files of a folder.
 * @param {FileSystemDirectoryEntry} folder @param {Found[]} found @param {Skipped} skipped
 * @param {{count: number}} examined the files and folders so far @param {number} depth
 */
async function walk(folder, found, skipped, examined, depth) {
  const path = folder.fullPath.slice(1);
  const why = skippedFolder(folder.name);
  if (why) return skipped.add(why, path);
  if (depth === MAX_DEPTH) return skipped.add("in too many folders", path);
  const reader = folder.createReader();
  for (;;) {
    /** @type {FileSystemEntry[]} */
    const entries = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (entries.length === 0) return;
    for (const entry of entries) {
      if (examined.count >= MAX_EXAMINED) return skipped.add(`beyond the first ${MAX_EXAMINED} files and folders`, path);
      examined.count += 1;
      if (entry.isDirectory) await walk(/** @type {FileSystemDirectoryEntry} */ (entry), found, skipped, examined, depth + 1);
      else found.push({ path: entry.fullPath.slice(1), file: await fileOf(/** @type {FileSystemFileEntry} */ (entry)) });
    }
  }
}

/** Returns the file of an entry. @param {FileSystemFileEntry} entry @returns {Promise<File>} */
const fileOf = (entry) => new Promise((resolve, reject) => entry.file(resolve, reject));

/** Returns the files of an `<input type=file>`. @param {Iterable<File>} files @returns {Found[]} */
export function chosenFiles(files) {
  return [...files].map((file) => ({ path: file.webkitRelativePath || file.name, file }));
}

/** Returns the text of a file, or null if it is not text. @param {File} file */
export const readText = async (file) => textOf(new Uint8Array(await file.arrayBuffer()));

/**
 * Reads files as sources for a review. A file whose name says that it is a diff becomes one source per file of the diff.
 * @param {Found[]} found @param {Skipped} skipped
 * @returns {Promise<Source[]>}
 */
export async function sourcesOf(found, skipped) {
  /** @type {Source[]} */
  const sources = [];
  let read = 0;
  for (const { path, file } of [...found].sort((a, b) => (a.path < b.path ? -1 : 1))) {
    const why = skippedFile(path, file.size) || (read >= MAX_READ ? `beyond the first ${MAX_READ} files` : "");
    if (why) {
      skipped.add(why, path);
      continue;
    }
    read += 1;
    const text = await readText(file).catch(() => null); // the file was deleted, or may not be read
    if (text === null) skipped.add("not text", path);
    else sources.push(...toSources(text, path, skipped));
  }
  return once(sources, skipped);
}

/** Returns the sources of one text. @param {string} text @param {string} name @param {Skipped} skipped @returns {Source[]} */
export function toSources(text, name, skipped) {
  const code = tidied(text);
  if (code === "") {
    skipped.add("empty", name);
    return [];
  }
  const files = name === "" || /\.(?:diff|patch)$/i.test(name) ? parseDiff(code) : null;
  if (files === null) return [{ name, code, diff: false }];
  const { sources, skipped: others } = fromDiff(files);
  skipped.addAll(others);
  return once(sources, skipped);
}

/** Returns code with Unix line ends, and without empty lines around it. @param {string} text */
export const tidied = (text) => text.replace(/\r\n?/g, "\n").replace(/^\n+|\s+$/g, "");
