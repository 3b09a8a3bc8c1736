// @ts-check
/** The text of a file, in the encoding that it declares or that its bytes show. Pure. */

/** @type {readonly [number[], string][]} */
const MARKS = [[[0xef, 0xbb, 0xbf], "utf-8"], [[0xff, 0xfe], "utf-16le"], [[0xfe, 0xff], "utf-16be"]];
/** In Python, Ruby and editors, in XML, in HTML and in CSS. */
const DECLARED = /^(?:.*\n)?.*coding[:=]\s*([-\w.]+)|<\?xml[^>]*encoding=["']([-\w]+)|charset[= ]["']?([-\w]+)/;
const DECLARED_WITHIN = 1_024;
/** What no text has; a file with these is in another encoding, or no text. */
const CONTROLS = /[\0-\x08\x0e-\x1a\x1c-\x1f\x7f-\x9f]/;
/** In Western languages few letters in a row are not in ASCII; in others most are. */
const WESTERN = /^(?:[^\x80-\uffff]|[\x80-\uffff]{1,3}(?![\x80-\uffff]))*$/;

/** @param {Uint8Array} bytes @returns {string | null} null for a file that is no text, or in an encoding that is not known */
export function textOf(bytes) {
  const marked = MARKS.find(([mark]) => mark.every((byte, index) => bytes[index] === byte))?.[1];
  if (marked) return decode(bytes, marked);
  const head = new TextDecoder("windows-1252").decode(bytes.subarray(0, DECLARED_WITHIN));
  const utf16 = /^[^\0]\0[^\0]\0/.test(head) ? "utf-16le" : /^\0[^\0]\0[^\0]/.test(head) ? "utf-16be" : "utf-8";
  const text = decode(bytes, utf16);
  if (text !== null) return text;
  const declared = DECLARED.exec(head)?.slice(1).find(Boolean);
  // Python writes some names in another way than browsers.
  if (declared) return decode(bytes, declared) ?? decode(bytes, declared.replace(/[-_]/, "")) ?? decode(bytes, declared.replace("_", "-"));
  const western = decode(bytes, "windows-1252");
  return western !== null && WESTERN.test(western) ? western : null;
}

/** @param {Uint8Array} bytes @param {string} encoding @returns {string | null} */
function decode(bytes, encoding) {
  try {
    const text = new TextDecoder(encoding, { fatal: true }).decode(bytes);
    return CONTROLS.test(text) ? null : text;
  } catch {
    return null; // not in this encoding, or no browser knows it
  }
}
