// @ts-check
/**
 * Reads and writes the frames of the WebSocket protocol. This module performs no I/O.
 *
 * The events are those of the Responses API, plus Holdline's own, which have the prefix `holdline:`.
 * See `docs/protocol-reference.md` for the reference.
 */

/** @typedef {{[name: string]: any}} Json a JSON object whose members are not known in advance */

/**
 * A message of the server: its type and the fields of that type.
 * @typedef {Json & {
 *   type: string, sequence_number?: number, stream_id?: string, response_id?: string, response?: Json,
 * }} ServerEvent
 */

/**
 * The fields of a request. All other fields of the Responses API are passed on unchanged.
 * @typedef {Json & {
 *   input?: string | Json[], previous_response_id?: string, instructions?: string, model?: string,
 *   idempotency_key?: string,
 * }} Request
 */

/** The subprotocol that switches on Holdline's own messages, in JSON. */
export const SUBPROTOCOL = "holdline.v1";

/** The longest delay of a timer in milliseconds; a timer with a longer delay fires at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/**
 * Returns the event in a frame, or null for a binary frame, invalid JSON or an object without a type.
 *
 * The caller can ignore null: if the frame was an event of an answer, the next sequence number shows the gap.
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
 * Makes a request with its own stream id. If the request is sent again with the same key and body, it attaches to the
 * same response.
 * @param {Request} request
 * @param {string} streamId
 * @param {string} idempotencyKey
 */
export function create(request, streamId, idempotencyKey) {
  return { ...request, type: "response.create", stream_id: streamId, idempotency_key: idempotencyKey };
}

/** Makes a cancel message. @param {string} responseId */
export function cancel(responseId) {
  return { type: "response.cancel", response_id: responseId };
}

/**
 * Makes a resume message: the server replays the events after a sequence number (-1: all events), then streams new ones.
 * @param {{responseId: string | null, lastSequenceNumber: number, event?: {item_id: string | undefined, event_type: string} | undefined}} answer `event`
 *   describes the event with this number, which the server compares with its log
 * @param {string} streamId
 */
export function resume({ responseId, lastSequenceNumber, event }, streamId) {
  return {
    type: "holdline:resume", response_id: responseId, starting_after: lastSequenceNumber, stream_id: streamId, ...event,
  };
}

/** Makes a ping message. @param {string} id */
export function ping(id) {
  return { type: "holdline:ping", id };
}

/** Makes an authentication message. @param {string} token */
export function auth(token) {
  return { type: "holdline:auth", token };
}

/**
 * Returns the lifetime of a JSON Web Token in milliseconds, or 0 if it does not state one. The lifetime is `exp` minus
 * `iat`: both come from the issuer's clock, because this device's clock may be wrong.
 * @param {string} token
 */
export function lifetimeOf(token) {
  const { iat, exp } = claimsOf(token);
  return Math.min(Math.max(0, 1_000 * (exp - iat)) || 0, LONGEST_TIMER_MS);
}

/**
 * Returns the owner of a token: the issuer, the tenant and the subject of a JSON Web Token, or the public part of an API
 * key; "" for any other token. Different subjects never have the same owner.
 * @param {string | null | undefined} token
 */
export function ownerOf(token) {
  const { iss, tenant, sub } = claimsOf(token ?? "");
  return sub ? JSON.stringify([iss, tenant, sub]) : /^hl_\w{12}(?=_)/.exec(token ?? "")?.[0] ?? "";
}

/** Returns the claims of a JSON Web Token, or no claims for another string. @param {string} token @returns {Json} */
function claimsOf(token) {
  try {
    return Object(JSON.parse(atob((token.split(".")[1] ?? "").replace(/-/g, "+").replace(/_/g, "/"))));
  } catch {
    return {};
  }
}

/** Returns 128 random bits as text. Browsers offer `randomUUID` only to secure origins. */
export function randomId() {
  const bytes = globalThis.crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * Returns the address of the socket for a `ws:` or `http:` address, or for a path on the page's host.
 * @param {string} url
 * @param {string} [base] the address of the page, needed only for a path
 */
export function socketUrl(url, base) {
  const address = new URL(url, base);
  if (address.protocol === "http:") address.protocol = "ws:";
  if (address.protocol === "https:") address.protocol = "wss:";
  if (address.protocol !== "ws:" && address.protocol !== "wss:") throw new TypeError(`not a WebSocket URL: ${url}`);
  address.hash = ""; // WebSocket addresses must not have a fragment
  return address.href;
}

/** Standard close codes after which a reconnected client would fail again for the same reason. */
const FINAL_STANDARD = new Set([
  1002, // protocol error
  1003, // unsupported kind of data
  1007, // invalid data
  1008, // policy
  1009, // message too big
  1010, // missing extension
]);

/** Temporary close codes in the range 4400 to 4499; the other codes concern the client itself. */
const COME_BACK = new Set([4408, 4429]); // time-out, too many requests

/** The delay after close code 4429 if the close reason states no delay, in milliseconds. */
const TOO_MANY_MS = 5_000;

/**
 * Returns whether to reconnect after a close code, and after how many milliseconds.
 *
 * The client reconnects after an unknown code, because an unneeded socket costs less than a lost answer. Browsers report
 * 1005 or 1006 for both a broken connection and a refused upgrade.
 * @param {number} code
 * @param {string} [reason] may contain `retry_after_ms=N`
 * @returns {{comeBack: boolean, afterMs: number}}
 */
export function closeAdvice(code, reason = "") {
  const comeBack = !(FINAL_STANDARD.has(code) || (code >= 4400 && code <= 4499 && !COME_BACK.has(code)));
  const stated = /retry_after_ms\W{1,3}(\d{1,9})/.exec(reason);
  if (stated) return { comeBack, afterMs: Number(stated[1]) };
  return { comeBack, afterMs: code === 4429 ? TOO_MANY_MS : 0 };
}
