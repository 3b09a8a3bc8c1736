// @ts-check
/** Checks the addresses of links in answers. This module performs no I/O. */

const ALLOWED = new Set(["https:", "http:", "mailto:", "tel:"]);

/**
 * Returns the address of a link, or null if it is not allowed.
 *
 * Only absolute addresses are allowed. A model does not know which site shows its answer, and a relative path could be a
 * "delete" link of that site. Addresses with a user name or a password are refused, because these imitate other hosts.
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

/** Returns the destination of a link as the browser spells it, or "" if the text of the link already names that host.
 * @param {URL} url @param {string} text
 */
export function destination(url, text) {
  const place = url.host || url.pathname;
  return text.toLowerCase().includes(place) && !looksElsewhere(text, place) ? "" : place;
}

/** Returns true if a text names a host other than the destination. @param {string} text @param {string} place */
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

/** Decodes HTML entities; unknown entities stay unchanged. @param {string} text */
export function decoded(text) {
  if (!text.includes("&")) return text;
  return text.replace(/&(?:#(\d{1,7})|#x([\da-f]{1,6})|(\w{1,8}));/gi, (whole, decimal, hex, name) => {
    if (name) return (Object.hasOwn(NAMED, name) && NAMED[name]) || whole;
    const code = decimal ? Number(decimal) : parseInt(hex, 16);
    return code > 0 && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff) ? String.fromCodePoint(code) : "\ufffd";
  });
}
