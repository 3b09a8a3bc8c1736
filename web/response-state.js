// @ts-check
/**
 * Builds the state of one response from its events. This module performs no I/O; `verify` uses WebCrypto.
 *
 * The state always corresponds to a prefix of the response's log. Duplicate events are dropped, and an event that arrives
 * too early is reported as a gap and not applied, so later text never hides missing text.
 * `holdline_client/response_state.py` does the same; both pass tests/vectors/response-state.json.
 */

/** @typedef {import("./protocol.js").ServerEvent} ServerEvent */
/** @typedef {import("./protocol.js").Json} Json */

/**
 * The status of an answer: `sending` until the server has confirmed the request. The last four are final.
 * @typedef {"sending" | "queued" | "in_progress" | "completed" | "incomplete" | "failed" | "cancelled"} Status
 */

/**
 * The outcome of an event: `applied`; `seen`, a duplicate or an event after the end; `gap`, earlier events are missing and
 * the caller must resume after `lastSequenceNumber`; `ignored`, neither an event of the log nor relevant here.
 * @typedef {"applied" | "seen" | "gap" | "ignored"} Outcome
 */

/** The `holdline` object of the terminal event: checksum, length, attempts, timing.
 * @typedef {{attempts?: number, sha256?: string, bytes?: number, timing?: {[hop: string]: number}}} Trailer
 */

/** @typedef {{code: string, message: string, type?: string, param?: string | null, status?: number, response_id?: string}} Failure `response_id` names the response that the request, or another one with its key, created */

/**
 * An item of the output: `raw` is the item as received; `texts` are the text parts of a message by content index;
 * `pieces` are other streamed parts by event name, which `aside.js` reads.
 * @typedef {{id: string, raw: Json, texts: string[], pieces: {[event: string]: string[]}, annotations: Json[]}} Item
 */

/** @type {ReadonlySet<string>} */
const ENDS = new Set(["completed", "incomplete", "failed", "cancelled"]);

const TEXT = "response.output_text";
/** The most frequent event type, which is handled first. */
const TEXT_DELTA = `${TEXT}.delta`;

const TERMINAL = new Set(["response.completed", "response.incomplete", "response.failed"]);

/** Returns true if a status is final. @param {Status} status */
export const isEnd = (status) => ENDS.has(status);

export class ResponseState {
  /**
   * Identifies the last applied event in a resume message; undefined if there is none.
   * @type {{item_id: string | undefined, event_type: string} | undefined}
   */
  event;

  /**
   * Creates the state of a response before its first event.
   * @param {string | null} [responseId] null until the server has assigned it
   * @param {number} [startingAfter] the last sequence number to skip
   */
  constructor(responseId = null, startingAfter = -1) {
    this.responseId = responseId;
    this.lastSequenceNumber = startingAfter;
    /** @type {Status} */
    this.status = "sending";
    /** The number of attempts. Each attempt discards the text of the previous one. */
    this.attempts = 0;
    /** @type {string | null} */
    this.model = null;
    /** The place in the queue while the response waits for a worker, initially or after a failed attempt. @type {{position: number | null, etaSeconds: number | null, reason: string | null} | null} */
    this.queue = null;
    /** Why the text was restarted, if the server gave a reason. @type {string | null} */
    this.restartReason = null;
    /** @type {Failure | null} */
    this.error = null;
    /** Why the answer is incomplete, for example `max_output_tokens`. @type {string | null} */
    this.incompleteReason = null;
    /** The `holdline` object of the terminal event. @type {Trailer | null} */
    this.trailer = null;
    /** @type {Map<number, Item>} */
    this.items = new Map();
  }

  get ended() {
    return isEnd(this.status);
  }

  /** The number of characters received so far. */
  get length() {
    let length = 0;
    for (const { texts } of this.items.values()) for (const text of texts) length += text?.length ?? 0;
    return length;
  }

  /** The output text of the current attempt, in order. */
  get text() {
    const items = [...this.items.entries()].sort(([a], [b]) => a - b);
    return items.map(([, item]) => item.texts.join("")).join("");
  }

  /**
   * Applies an event. If the outcome is `gap`, the caller resumes after `lastSequenceNumber`.
   * @param {ServerEvent} event
   * @returns {Outcome}
   */
  apply(event) {
    const number = event.sequence_number;
    if (event.type === "holdline:queued") return this.#queued(event);
    if (typeof number !== "number") return "ignored";
    if (this.ended || number <= this.lastSequenceNumber) return "seen";
    this.responseId ??= event.response?.id ?? event.response_id ?? null;
    if (number > this.lastSequenceNumber + 1) return "gap";
    this.lastSequenceNumber = number;
    this.event = { item_id: event.item_id ?? event.item?.id, event_type: event.type };
    this.#apply(event);
    return "applied";
  }

  /** Discards all events, after the server's storage has lost some of them. */
  startOver() {
    const fresh = new ResponseState(this.responseId);
    fresh.attempts = this.attempts + 1;
    return fresh;
  }

  /**
   * Fails the answer for a reason that is not in its log: it was refused or abandoned, or the server is unreachable.
   * @param {Failure} error
   */
  fail(error) {
    if (this.ended) return;
    this.status = "failed";
    this.error = error;
  }

  /** Cancels the answer before its request was sent. */
  withdraw() {
    if (!this.ended) this.status = "cancelled";
  }

  /** Applies an event about the place in the queue. @param {ServerEvent} event @returns {Outcome} */
  #queued(event) {
    this.responseId ??= event.response_id ?? null;
    if (this.ended) return "seen";
    if (this.status === "sending") this.status = "queued";
    this.queue = {
      position: event.position ?? null, etaSeconds: event.eta_seconds ?? null, reason: event.reason ?? null,
    };
    return "applied";
  }

  /** Applies an event, which changes the status, the text or an item. @param {ServerEvent} event */
  #apply(event) {
    if (event.type === TEXT_DELTA && typeof event.delta === "string") return this.#addText(event, TEXT, event.delta, true);
    const cut = event.type.lastIndexOf(".");
    const isDelta = event.type.endsWith(".delta");
    const text = isDelta ? event.delta : event.text ?? event.refusal;
    if (typeof text === "string") return this.#addText(event, event.type.slice(0, cut), text, isDelta);
    if (event.response?.model) this.model = event.response.model;
    if (TERMINAL.has(event.type)) return this.#end(event.response ?? {});
    switch (event.type) {
      case "response.created":
      case "response.queued":
        // This event may report an earlier status than the current one, but the status must not go back.
        if (this.status === "sending") this.status = event.response?.status === "in_progress" ? "in_progress" : "queued";
        return;
      case "holdline:restarted":
        this.items.clear(); // each attempt starts with no text, so that two attempts are never mixed
        this.attempts = event.attempt ?? this.attempts + 1;
        this.restartReason = event.reason ?? "";
        return this.#begun();
      case "response.in_progress":
        return this.#begun();
      case "response.output_item.added":
      case "response.output_item.done":
        this.#begun();
        this.items.set(event.output_index, itemOf(event.item));
        return;
      case "response.output_text.annotation.added":
        this.#item(event).annotations.push(event.annotation);
    }
  }

  /** Adds a text delta to a text of an item, or replaces this text with the complete one.
   * @param {ServerEvent} event @param {string} kind @param {string} text @param {boolean} isDelta
   */
  #addText(event, kind, text, isDelta) {
    const item = this.#item(event);
    const pieces = kind === TEXT ? item.texts : (item.pieces[kind] ??= []);
    const index = event.content_index ?? event.summary_index ?? 0;
    this.#begun();
    pieces[index] = isDelta ? (pieces[index] ?? "") + text : text;
  }

  #begun() {
    this.status = "in_progress";
    this.queue = null;
    this.attempts = Math.max(this.attempts, 1);
  }

  /** Returns the item of an event. An item with another id at the same index is replaced.
   * @param {ServerEvent} event
   */
  #item(event) {
    let item = this.items.get(event.output_index);
    if (item === undefined || (event.item_id !== undefined && item.id !== event.item_id)) {
      item = itemOf({ id: event.item_id });
      this.items.set(event.output_index, item);
    }
    return item;
  }

  /** Applies the final response of a terminal event. @param {Json} response */
  #end(response) {
    this.status = isEnd(response.status) ? response.status : "failed";
    this.queue = null;
    this.trailer = response.holdline ?? null;
    this.attempts = this.trailer?.attempts ?? this.attempts;
    this.incompleteReason = response.incomplete_details?.reason ?? null;
    if (this.status === "failed") {
      this.error = { code: "server_error", message: "The answer failed.", ...response.error };
    }
    // `output` is the complete output of the last attempt. Only a failure may omit it; then the partial text is kept.
    if (!Array.isArray(response.output)) return;
    if (response.output.length > 0 || this.status !== "failed") {
      this.items = new Map(response.output.map((/** @type {unknown} */ item) => itemOf(item)).entries());
    }
  }
}

/** Makes an item from its form on the wire. @param {unknown} item @returns {Item} */
function itemOf(item) {
  /** @type {Json} */
  const raw = Object(item);
  const parts = Array.isArray(raw.content) ? raw.content : [];
  const texts = parts.map((part) => (part?.type === "output_text" ? String(part.text) : ""));
  return { id: raw.id ?? "", raw, texts, pieces: {}, annotations: [] };
}

/**
 * Returns true if a text matches its checksum, or null if this is unknown: there is no checksum, or no WebCrypto, which
 * browsers offer only to secure origins. Without WebCrypto, a wrong length still yields false.
 * @param {string} text
 * @param {Trailer | null} trailer
 * @returns {Promise<boolean | null>}
 */
export async function verify(text, trailer) {
  if (!trailer) return null;
  const bytes = new TextEncoder().encode(text);
  if (typeof trailer.bytes === "number" && trailer.bytes !== bytes.length) return false;
  const subtle = globalThis.crypto?.subtle;
  if (typeof trailer.sha256 !== "string" || subtle === undefined) return null;
  const digest = new Uint8Array(await subtle.digest("SHA-256", bytes));
  const hex = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex === trailer.sha256.toLowerCase();
}
