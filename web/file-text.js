// @ts-check
/** Decodes a text file in its declared or detected encoding. This module performs no I/O. */

/** @type {readonly [number[], string][]} */
const MARKS = [[[0xef, 0xbb, 0xbf], "utf-8"], [[0xff, 0xfe], "utf-16le"], [[0xfe, 0xff], "utf-16be"]];
/** Matches encoding declarations: those of Python, Ruby and editors, of XML, and of HTML and CSS. */
const DECLARED = /^(?:.*\n)?.*coding[:=]\s*([-\w.]+)|<\?xml[^>]*encoding=["']([-\w]+)|charset[= ]["']?([-\w]+)/;
const DECLARED_WITHIN = 1_024;
/** Control characters. A text that contains one was decoded with the wrong encoding, or the file is binary. */
const CONTROLS = /[\0-\x08\x0e-\x1a\x1c-\x1f\x7f-\x9f]/;
/** Western languages have at most a few consecutive non-ASCII letters; in other languages, most letters are non-ASCII. */
const WESTERN = /^(?:[^\x80-\uffff]|[\x80-\uffff]{1,3}(?![\x80-\uffff]))*$/;

/**
 * Returns the text of a file, or null for a binary file or an unknown encoding.
 * @param {Uint8Array} bytes
 * @returns {string | null}
 */
export function textOf(bytes) {
  const marked = MARKS.find(([mark]) => mark.every((byte, index) => bytes[index] === byte))?.[1];
  if (marked) return decode(bytes, marked);
  const head = new TextDecoder("windows-1252").decode(bytes.subarray(0, DECLARED_WITHIN));
  const utf16 = /^[^\0]\0[^\0]\0/.test(head) ? "utf-16le" : /^\0[^\0]\0[^\0]/.test(head) ? "utf-16be" : "utf-8";
  const text = decode(bytes, utf16);
  if (text !== null) return text;
  const declared = DECLARED.exec(head)?.slice(1).find(Boolean);
  // Python spells some encoding names differently from browsers.
  if (declared) return decode(bytes, declared) ?? decode(bytes, declared.replace(/[-_]/, "")) ?? decode(bytes, declared.replace("_", "-"));
  const western = decode(bytes, "windows-1252");
  return western !== null && WESTERN.test(western) ? western : null;
}

/** Decodes bytes, or returns null if they are not text in this encoding.
 * @param {Uint8Array} bytes @param {string} encoding @returns {string | null}
 */
function decode(bytes, encoding) {
  try {
    const text = new TextDecoder(encoding, { fatal: true }).decode(bytes);
    return CONTROLS.test(text) ? null : text;
  } catch {
    return null; // the bytes are invalid in this encoding, or the browser does not know it
  }
}
