// @ts-check
/**
 * The state of one response, built from its events. Pure but for `verify`, which asks WebCrypto for a digest.
 *
 * The state is always that of a prefix of the response's log: an event that was seen is dropped, and an event beyond
 * the next one is reported instead of applied, so a gap can neither be hidden nor filled with later text.
 * `holdline_client/response_state.py` does the same; both pass tests/vectors/response-state.json.
 */

/** @typedef {import("./protocol.js").ServerEvent} ServerEvent */
/** @typedef {import("./protocol.js").Json} Json */

/**
 * `sending` until the server has shown that it knows the request; the last four are the ends.
 * @typedef {"sending" | "queued" | "in_progress" | "completed" | "incomplete" | "failed" | "cancelled"} Status
 */

/**
 * What became of an event: `applied`; `seen` before, or after the end; `gap`, events before it are missing and the
 * caller must resume after `lastSequenceNumber`; `ignored`, not an event of the log and of no interest here.
 * @typedef {"applied" | "seen" | "gap" | "ignored"} Outcome
 */

/** The `holdline` object of the terminal event: checksum, length, attempts, timing.
 * @typedef {{attempts?: number, sha256?: string, bytes?: number, timing?: {[hop: string]: number}}} Trailer
 */

/** @typedef {{code: string, message: string, type?: string, param?: string | null, status?: number}} Failure */

/**
 * One item of the output: as the wire has it, of whatever type; the text parts of a message by content index; and other
 * streamed parts, by the name of their events, which `aside.js` reads.
 * @typedef {{id: string, raw: Json, texts: string[], pieces: {[event: string]: string[]}, annotations: Json[]}} Item
 */

/** @type {ReadonlySet<string>} */
const ENDS = new Set(["completed", "incomplete", "failed", "cancelled"]);

const TEXT = "response.output_text";
/** Nearly every event is one of these, so it is not taken apart. */
const TEXT_DELTA = `${TEXT}.delta`;

const TERMINAL = new Set(["response.completed", "response.incomplete", "response.failed"]);

/** @param {Status} status */
export const isEnd = (status) => ENDS.has(status);

export class ResponseState {
  /**
   * What a resume shows of the event `lastSequenceNumber`, undefined if there is none.
   * @type {{item_id: string | undefined, event_type: string} | undefined}
   */
  event;

  /**
   * @param {string | null} [responseId] null until the server has named it
   * @param {number} [startingAfter] the last sequence number that need not be sent again
   */
  constructor(responseId = null, startingAfter = -1) {
    this.responseId = responseId;
    this.lastSequenceNumber = startingAfter;
    /** @type {Status} */
    this.status = "sending";
    /** How often a worker has begun it. Above 1, what an earlier attempt wrote is gone. */
    this.attempts = 0;
    /** @type {string | null} */
    this.model = null;
    /** While it waits for a worker: the first, or after an attempt that broke off the next. @type {{position: number | null, etaSeconds: number | null, reason: string | null} | null} */
    this.queue = null;
    /** Why the text was restarted, if the server gave a reason. @type {string | null} */
    this.restartReason = null;
    /** @type {Failure | null} */
    this.error = null;
    /** Why it is incomplete, for example `max_output_tokens`. @type {string | null} */
    this.incompleteReason = null;
    /** From the terminal event. @type {Trailer | null} */
    this.trailer = null;
    /** @type {Map<number, Item>} */
    this.items = new Map();
  }

  get ended() {
    return isEnd(this.status);
  }

  /** Characters of it so far. */
  get length() {
    let length = 0;
    for (const { texts } of this.items.values()) for (const text of texts) length += text?.length ?? 0;
    return length;
  }

  /** All output text, in order, of the present attempt alone. */
  get text() {
    const items = [...this.items.entries()].sort(([a], [b]) => a - b);
    return items.map(([, item]) => item.texts.join("")).join("");
  }

  /**
   * Takes one event; the caller resumes after `lastSequenceNumber` when the outcome is `gap`.
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

  /** A state without events, after the server's storage lost some of them. */
  startOver() {
    const fresh = new ResponseState(this.responseId);
    fresh.attempts = this.attempts + 1;
    return fresh;
  }

  /**
   * Ends it here, for a reason that is not in its log: refused, given up, unreachable.
   * @param {Failure} error
   */
  fail(error) {
    if (this.ended) return;
    this.status = "failed";
    this.error = error;
  }

  /** Cancels it before the request was sent. */
  withdraw() {
    if (!this.ended) this.status = "cancelled";
  }

  /** @param {ServerEvent} event @returns {Outcome} */
  #queued(event) {
    this.responseId ??= event.response_id ?? null;
    if (this.ended) return "seen";
    if (this.status === "sending") this.status = "queued";
    this.queue = {
      position: event.position ?? null, etaSeconds: event.eta_seconds ?? null, reason: event.reason ?? null,
    };
    return "applied";
  }

  /** @param {ServerEvent} event */
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
        // A worker may have begun before the log says so; a status never goes back.
        if (this.status === "sending") this.status = event.response?.status === "in_progress" ? "in_progress" : "queued";
        return;
      case "holdline:restarted":
        this.items.clear(); // the next attempt starts from nothing: text of two is never mixed
        this.attempts = event.attempt ?? this.attempts + 1;
        this.restartReason = event.reason ?? "";
        return this.#begun();
      case "response.in_progress":
        return this.#begun();
      case "response.output_item.added":
        this.#begun();
        this.items.set(event.output_index, itemOf(event.item));
        return;
      case "response.output_text.annotation.added":
        this.#item(event).annotations.push(event.annotation);
    }
  }

  /** @param {ServerEvent} event @param {string} kind @param {string} text @param {boolean} isDelta */
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

  /** An event's item. One of another id at the same index takes its place.
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

  /** @param {Json} response */
  #end(response) {
    this.status = isEnd(response.status) ? response.status : "failed";
    this.queue = null;
    this.trailer = response.holdline ?? null;
    this.attempts = this.trailer?.attempts ?? this.attempts;
    this.incompleteReason = response.incomplete_details?.reason ?? null;
    if (this.status === "failed") {
      this.error = { code: "server_error", message: "The answer failed.", ...response.error };
    }
    // The output is the whole of the last attempt; only a failure may come without it, and then the partial text stays.
    if (!Array.isArray(response.output)) return;
    if (response.output.length > 0 || this.status !== "failed") {
      this.items = new Map(response.output.map((/** @type {unknown} */ item) => itemOf(item)).entries());
    }
  }
}

/** @param {unknown} item @returns {Item} */
function itemOf(item) {
  /** @type {Json} */
  const raw = Object(item);
  const parts = Array.isArray(raw.content) ? raw.content : [];
  const texts = parts.map((part) => (part?.type === "output_text" ? String(part.text) : ""));
  return { id: raw.id ?? "", raw, texts, pieces: {}, annotations: [] };
}

/**
 * Whether a text matches its checksum: true, false, or null where that cannot be known (no checksum, or
 * no WebCrypto, which browsers give to secure origins alone; then the length still speaks).
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
