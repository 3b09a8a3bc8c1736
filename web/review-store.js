// @ts-check
/**
 * Keeps the review of this tab, so that a reload at any moment continues it without a second model call.
 *
 * A file is stored with its code before its request is sent, and with the id of its response after that. A reload sends
 * the requests without an id again, with the same idempotency keys. The storage belongs to the tab and ends with it.
 */

/** @typedef {{id: string} | {name: string, language: string, code: string, diff: boolean, after: string}} Stored */

const PENDING = "holdline.review";
const REQUESTED = "holdline.review.requested";
/** The number of responses that this tab remembers as its own. */
const MAX_REQUESTED = 200;
/** The ids of the responses of a review, which are in the fragment of its link. */
const LINK = /^#resp_\w{1,64}(?:,resp_\w{1,64})*$/;

/** Stores the files of a review, which a reload at the current address continues. @param {Stored[]} files */
export function keep(files) {
  try {
    sessionStorage.setItem(PENDING, JSON.stringify({ from: location.hash, files }));
  } catch {
    // The storage is full or forbidden, so a reload cannot continue the review until its link is in the address.
  }
}

/**
 * Returns the stored files of the review at the current address, or none.
 * @param {boolean} reloaded whether the page was reloaded; a link to the form does not continue a review that was
 *   accepted, which a reload of the form's address does
 * @returns {Stored[]}
 */
export function kept(reloaded) {
  const { from, files } = parsed(PENDING, {});
  if (!Array.isArray(files)) return [];
  const accepted = files.every((file) => "id" in Object(file));
  if (accepted) forget();
  return from === location.hash && (!accepted || reloaded) ? files : [];
}

export const forget = () => sessionStorage.removeItem(PENDING);

/** Remembers that this tab has requested a response. @param {string} id */
export function setRequested(id) {
  const ids = requestedIds();
  if (ids.includes(id)) return;
  try {
    sessionStorage.setItem(REQUESTED, JSON.stringify([...ids, id].slice(-MAX_REQUESTED)));
  } catch {
    // After a reload, the review can then be read, but not stopped.
  }
}

/** Returns true if this tab has requested a response. @param {string} id */
export const isRequested = (id) => requestedIds().includes(id);

/** @returns {unknown[]} */
function requestedIds() {
  const ids = parsed(REQUESTED, []);
  return Array.isArray(ids) ? ids : [];
}

/** Returns a stored value, or another one if it cannot be read. @param {string} name @param {any} other @returns {any} */
function parsed(name, other) {
  try {
    return JSON.parse(sessionStorage.getItem(name) ?? "null") ?? other;
  } catch {
    return other;
  }
}

/** Returns the response ids in a fragment. @param {string} hash @param {number} most @returns {string[]} */
export function idsIn(hash, most) {
  return LINK.test(hash) ? [...new Set(hash.slice(1).split(","))].slice(0, most) : [];
}
