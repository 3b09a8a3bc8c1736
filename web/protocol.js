// @ts-check
/**
 * The frames of the wire as this client reads and writes them. Pure.
 *
 * The events are those of the Responses API; what carries the prefix `holdline:` is ours.
 * `docs/protocol-reference.md` is the reference for both sides.
 */

/** @typedef {{[name: string]: any}} Json a JSON object whose members are not known in advance */

/**
 * One message of the server: the type, and whatever that type brings.
 * @typedef {Json & {
 *   type: string, sequence_number?: number, stream_id?: string, response_id?: string, response?: Json,
 * }} ServerEvent
 */

/**
 * What a caller may put in a request; the rest of the standard's body passes through untouched.
 * @typedef {Json & {
 *   input?: string | Json[], previous_response_id?: string, instructions?: string, model?: string,
 *   idempotency_key?: string,
 * }} Request
 */

/** A timer with more rings at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/**
 * The event in a frame, or null for a frame that is not one: a binary frame, broken JSON, an object without a type.
 *
 * A null needs no alarm: if it was an event of an answer, the next sequence number betrays the gap.
 * @param {unknown} data
 * @returns {ServerEvent | null}
 */
export function parseFrame(data) {
  if (typeof data !== "string") return null;
  let value;
  try {
    value = JSON.parse(data);
  } catch {
    return null;
  }
  if (typeof value !== "object" || value === null || typeof value.type !== "string") return null;
  return value;
}

/**
 * A request on a lane of its own. The same key and the same body, sent again, attach to the same response.
 * @param {Request} request
 * @param {string} streamId
 * @param {string} idempotencyKey
 */
export function create(request, streamId, idempotencyKey) {
  return { ...request, type: "response.create", stream_id: streamId, idempotency_key: idempotencyKey };
}

/** @param {string} responseId */
export function cancel(responseId) {
  return { type: "response.cancel", response_id: responseId };
}

/**
 * Everything after a sequence number, then live; -1 means from the beginning.
 * @param {{responseId: string | null, lastSequenceNumber: number, event?: {item_id: string | undefined, event_type: string} | undefined}} answer `event`
 *   is of the event with this number: the server compares it with its log
 * @param {string} streamId
 */
export function resume({ responseId, lastSequenceNumber, event }, streamId) {
  return {
    type: "holdline:resume", response_id: responseId, starting_after: lastSequenceNumber, stream_id: streamId, ...event,
  };
}

/** @param {string} id */
export function ping(id) {
  return { type: "holdline:ping", id };
}

/** @param {string} token */
export function auth(token) {
  return { type: "holdline:auth", token };
}

/**
 * Milliseconds that a token is good for, if it says so as JSON Web Tokens do; 0 if not. A difference of two times of one
 * clock: that of this device may be wrong.
 * @param {string} token
 */
export function lifetimeOf(token) {
  const { iat, exp } = claimsOf(token);
  return Math.min(Math.max(0, 1_000 * (exp - iat)) || 0, LONGEST_TIMER_MS);
}

/**
 * The person or the service that a token names: the issuer, the tenant and the subject of a JSON Web Token, or the public
 * part of an API key; "" for a token that names nobody. Two subjects never have the same one.
 * @param {string | null} token
 */
export function ownerOf(token) {
  const { iss, tenant, sub } = claimsOf(token ?? "");
  return sub ? JSON.stringify([iss, tenant, sub]) : /^hl_\w{12}(?=_)/.exec(token ?? "")?.[0] ?? "";
}

/** The claims of a JSON Web Token, none for anything else. @param {string} token @returns {Json} */
function claimsOf(token) {
  try {
    return Object(JSON.parse(atob((token.split(".")[1] ?? "").replace(/-/g, "+").replace(/_/g, "/"))));
  } catch {
    return {};
  }
}

/** 128 random bits. Not `randomUUID`, which browsers give to secure origins alone. */
export function randomId() {
  const bytes = globalThis.crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * The address of the socket for what a caller has: a `ws:` or `http:` address, or a path on the page's own host.
 * @param {string} url
 * @param {string} [base] the page's address, needed for a path alone
 */
export function socketUrl(url, base) {
  const address = new URL(url, base);
  if (address.protocol === "http:") address.protocol = "ws:";
  if (address.protocol === "https:") address.protocol = "wss:";
  if (address.protocol !== "ws:" && address.protocol !== "wss:") throw new TypeError(`not a socket's address: ${url}`);
  address.hash = ""; // a WebSocket refuses an address with a fragment
  return address.href;
}

/** Standard codes after which the same client would fail in the same way again. */
const FINAL_STANDARD = new Set([
  1002, // protocol error
  1003, // a kind of data that the server does not take
  1007, // data that does not match its kind
  1008, // policy
  1009, // too big
  1010, // a missing extension
]);

/** Of the band 4400 to 4499, what is about the moment and not about the client. */
const COME_BACK = new Set([4408, 4429]); // silent, too many

/** After 4429 without a stated time: milliseconds before the next try. */
const TOO_MANY_MS = 5_000;

/**
 * What a close code advises.
 *
 * An unknown code means "come back": a socket too many costs little, an answer that nobody fetches costs everything.
 * 1006 and 1005 are what a browser reports for a broken line or a refused upgrade; it cannot tell them apart.
 * @param {number} code
 * @param {string} [reason] may state `retry_after_ms=N`
 * @returns {{comeBack: boolean, afterMs: number}}
 */
export function closeAdvice(code, reason = "") {
  const comeBack = !(FINAL_STANDARD.has(code) || (code >= 4400 && code <= 4499 && !COME_BACK.has(code)));
  const stated = /retry_after_ms\W{1,3}(\d{1,9})/.exec(reason);
  if (stated) return { comeBack, afterMs: Number(stated[1]) };
  return { comeBack, afterMs: code === 4429 ? TOO_MANY_MS : 0 };
}
