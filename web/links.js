// @ts-check
/** Where a link of an answer may lead. Pure. */

const ALLOWED = new Set(["https:", "http:", "mailto:", "tel:"]);

/**
 * The address of a link, or null for one that is not to be followed.
 *
 * Only a whole address counts: a model does not know on which site it is shown, and a path of its making could be that
 * site's own "delete". A name or a password in an address is there to look like another host.
 * @param {string} written
 * @returns {URL | null}
 */
export function address(written) {
  let url;
  try {
    url = new URL(decoded(written));
  } catch {
    return null;
  }
  return ALLOWED.has(url.protocol) && url.username === "" && url.password === "" ? url : null;
}

/** Where a link leads, or "" if its text names that host already; the host is spelled as the browser reads it.
 * @param {URL} url @param {string} text
 */
export function destination(url, text) {
  const place = url.host || url.pathname;
  return text.toLowerCase().includes(place) && !looksElsewhere(text, place) ? "" : place;
}

/** A text that names a host besides the true one. @param {string} text @param {string} place */
function looksElsewhere(text, place) {
  const hosts = text.toLowerCase().match(/[\w-]+(?:\.[\w-]+)+/g) ?? [];
  return hosts.length > 0 && hosts[0] !== place && hosts[0] !== place.split(":")[0];
}

/** @type {Readonly<Record<string, string>>} */
const NAMED = {
  amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0", copy: "©", reg: "®", trade: "™", hellip: "…",
  mdash: "—", ndash: "–", laquo: "«", raquo: "»", lsquo: "‘", rsquo: "’", ldquo: "“", rdquo: "”", bull: "•",
  middot: "·", times: "×", deg: "°", euro: "€", larr: "←", rarr: "→", le: "≤", ge: "≥", ne: "≠",
};

/** The characters that entities stand for; a name that is not known stays as it is. @param {string} text */
export function decoded(text) {
  if (!text.includes("&")) return text;
  return text.replace(/&(?:#(\d{1,7})|#x([\da-f]{1,6})|(\w{1,8}));/gi, (whole, decimal, hex, name) => {
    if (name) return (Object.hasOwn(NAMED, name) && NAMED[name]) || whole;
    const code = decimal ? Number(decimal) : parseInt(hex, 16);
    return code > 0 && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff) ? String.fromCodePoint(code) : "\ufffd";
  });
}
