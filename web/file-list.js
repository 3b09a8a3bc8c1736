// @ts-check
/**
 * Shows the images and files of a prompt: a thumbnail or an icon, the name and the size. A thumbnail is a canvas, so the
 * page needs no `img-src`.
 */

import { icon, make } from "./dom.js";
import { SIGNS } from "./signs.js";

/** @typedef {import("./conversation.js").Attached} Attached */

/** The width of a thumbnail in device pixels. */
const THUMBNAIL = 96;

/**
 * Returns a list of files.
 * @param {Attached[]} files
 * @param {import("./protocol.js").Json[]} parts the content parts of the files, or none if this page does not have them
 * @param {{label: string, size: (bytes: number) => string, more?: (index: number) => Node}} how `label` is the name of the
 *   list; `more` makes an element beside each file
 */
export function fileList(files, parts, { label, size, more }) {
  const list = make("ul", "files");
  list.setAttribute("aria-label", label);
  for (const [index, file] of files.entries()) {
    const url = parts[index]?.image_url;
    const item = make("li", "file", url ? thumbnail(url) : icon(file.type.startsWith("image/") ? SIGNS.image : SIGNS.file));
    item.append(make("span", "file-name", file.name), make("span", "file-size", size(file.size)));
    if (more) item.append(more(index));
    list.append(item);
  }
  return list;
}

/** Returns the content parts of a turn's files, or none if this page does not have them.
 * @param {import("./conversation.js").Turn | undefined} turn @returns {import("./protocol.js").Json[]}
 */
export function partsOf(turn) {
  const input = turn?.files && turn.request.input;
  const content = Array.isArray(input) ? input.at(-1)?.content : [];
  return Array.isArray(content) ? content.filter(({ type }) => type !== "input_text") : [];
}

/** Returns a thumbnail of an image in a data URL. @param {string} url */
function thumbnail(url) {
  const canvas = make("canvas", "thumbnail");
  canvas.width = canvas.height = THUMBNAIL;
  canvas.setAttribute("aria-hidden", "true"); // the name is beside it
  drawThumbnail(canvas, url).catch(() => {}); // it stays empty
  return canvas;
}

/** Draws the middle of an image in a data URL on a square canvas, or nothing if it cannot be decoded.
 * @param {HTMLCanvasElement} canvas @param {string} url
 */
async function drawThumbnail(canvas, url) {
  const [head = "", data = ""] = url.split(",");
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const type = head.slice("data:".length).split(";")[0] ?? "";
  const bitmap = await createImageBitmap(new Blob([bytes], { type }));
  const side = Math.min(bitmap.width, bitmap.height);
  const [left, top] = [(bitmap.width - side) / 2, (bitmap.height - side) / 2];
  canvas.getContext("2d")?.drawImage(bitmap, left, top, side, side, 0, 0, canvas.width, canvas.height);
  bitmap.close();
}

/** Returns a function that writes a number of bytes in a language. @param {string} language @returns {(bytes: number) => string} */
export function sizesIn(language) {
  const form = (/** @type {string} */ unit, digits = 0) => numberFormat(language, { style: "unit", unit, maximumFractionDigits: digits });
  const [kilobytes, megabytes] = [form("kilobyte"), form("megabyte", 1)];
  return (bytes) => (bytes < 1_000_000 ? kilobytes.format(Math.ceil(bytes / 1_000)) : megabytes.format(bytes / 1_000_000));
}

/** Returns a number format, in English if the language is invalid. @param {string} language @param {Intl.NumberFormatOptions} options */
function numberFormat(language, options) {
  try {
    return new Intl.NumberFormat(language, options);
  } catch {
    return new Intl.NumberFormat("en", options);
  }
}
