// @ts-check
/**
 * A conversation kept in a storage, such as `localStorage`, so that it survives reloads and is shared with other tabs.
 * This module performs no other I/O.
 *
 * A turn is stored with its request's idempotency key before its prompt is sent. After a reload, the page sends the same
 * request with the same key if the response has no id yet, and otherwise follows the response. Either way there is only
 * one answer, even if two tabs do this. The storage is authoritative, and each write changes one turn.
 */

import { isEnd } from "./response-state.js";

/** @typedef {import("./response-state.js").Status} Status */
/** @typedef {import("./protocol.js").Request} Request */

/**
 * @typedef {{
 *   prompt: string, request: Request, key: string, at: number, responseId: string | null, status: Status, text: string,
 *   note: string, model: string | null, feedback?: import("./feedback.js").Feedback, aside?: import("./aside.js").Aside | null, files?: Attached[], whole?: boolean,
 *   held?: boolean, feedbackEvent?: number,
 * }} Turn one prompt and its answer; `at` is in milliseconds; `note` is the line under a finished answer; `whole`: the
 *   request contains the earlier turns; `held`: the request waits until its conversation exists;
 *   `feedbackEvent`: the number of the last event of the server's conversation about the feedback, or -1
 */

/**
 * An image or file of a prompt. Its content is only in the request, and is not stored, because a few images would fill
 * the storage.
 * @typedef {{name: string, size: number, type: string}} Attached
 */

/** @typedef {{content?: string | import("./protocol.js").Json[] | undefined, files?: Attached[] | undefined}} Content the content of a prompt with files */

/** @typedef {Pick<Storage, "getItem" | "setItem" | "removeItem">} Place */

/** The maximum number of turns. The oldest turns are deleted first, so that the storage does not overflow. */
export const TURN_LIMIT = 100;

export class Conversation {
  /** @type {Turn[]} */
  turns = [];

  /** Reads the stored turns.
   * @param {Place} storage @param {string} [name] the storage key
   * @param {string | null} [opening] the assistant's message before the first prompt
   */
  constructor(storage, name = "holdline.conversation", opening = null) {
    this.storage = storage;
    this.name = name;
    this.opening = opening;
    this.sync();
  }

  /**
   * Adds and stores a turn. The request names the last continuable response, so that the model sees the history.
   * @param {string} prompt
   * @param {string} key
   * @param {Content & {whole?: boolean, instead?: Turn, like?: Turn, more?: object, at?: number}} [how] `whole`: include all earlier
   *   turns, for a server that has deleted them; `like`: repeat the request of this turn; `more`: further fields of the
   *   request; `content` and `files`: for a prompt with images or files
   * @returns {Turn}
   */
  add(prompt, key, { whole = false, instead, like, more = {}, files = like?.files, content = prompt, at = Date.now() } = {}) {
    if (instead) this.remove(instead);
    const request = like?.request ?? { ...more, ...this.#request(content, whole) };
    /** @type {Turn} */
    const turn = {
      prompt, request, key, at, responseId: null, status: "sending", text: "", note: "", model: null,
      ...(files && { files }), ...(whole && { whole }),
    };
    this.turns = [...this.turns, turn].slice(-TURN_LIMIT);
    this.save(turn);
    return turn;
  }

  /** Removes a turn, also from the storage. @param {Turn} turn */
  remove(turn) {
    this.turns = without(this.turns, [turn]);
    this.#write(without(this.#stored(), [turn]));
  }

  clear() {
    this.turns = [];
    this.storage.removeItem(this.name);
  }

  /** Stores a turn, without the content of its files, and keeps the turns that other tabs have stored. @param {Turn} saved */
  save(saved) {
    const { input, ...request } = saved.request;
    const turn = saved.files ? { ...saved, request } : saved;
    const stored = this.#stored();
    const place = stored.findIndex(({ key }) => key === turn.key);
    this.#write(place < 0 ? [...stored, turn] : stored.with(place, turn));
  }

  /**
   * Loads the turns that other tabs have stored. Turns that are already in memory keep their objects.
   *
   * Browsers share a storage between processes with a delay, so a write of this tab may bring back turns that another
   * tab has just removed. The `storage` event of the removal still arrives, so this tab removes them again.
   * @param {{oldValue: string | null, newValue: string | null}} [change] the `storage` event of another tab
   */
  sync(change) {
    const stored = this.#stored();
    const kept = without(stored, without(parse(change?.oldValue), parse(change?.newValue)));
    if (kept.length < stored.length) this.#write(kept);
    this.turns = kept.map((turn) => {
      const known = this.turns.find(({ key }) => key === turn.key) ?? turn;
      known.responseId ??= turn.responseId;
      return known;
    });
  }

  /** Stores the turns; if the storage is full, stores as many of the last ones as fit. @param {Turn[]} turns */
  #write(turns) {
    if (turns.length === 0) return this.storage.removeItem(this.name);
    for (let first = Math.max(0, turns.length - TURN_LIMIT); first < turns.length; first = 2 * first + 1) {
      try {
        this.storage.setItem(this.name, JSON.stringify(turns.slice(first)));
        return;
      } catch {
        // The storage is full, so the oldest turns are dropped.
      }
    }
  }

  #stored() {
    return parse(this.storage.getItem(this.name));
  }

  /** Returns the request for a prompt. The request continues the last response, or contains all earlier turns if
   * `whole` is true. Earlier files are only named, because all files together could exceed the maximum size of a request.
   * @param {string | import("./protocol.js").Json[]} content @param {boolean} whole @returns {Request}
   */
  #request(content, whole) {
    const turns = this.turns.filter(continuable);
    const previous = whole ? null : turns.at(-1)?.responseId;
    const earlier = previous ? [] : [message("assistant", this.opening), ...turns.flatMap(({ prompt, files = [], text }) => [
      message("user", [prompt, ...files.map(({ name }) => `[${name}]`)].join("\n").trim()), message("assistant", text),
    ])].filter(({ content: written }) => written);
    const input = earlier[0] || typeof content !== "string" ? [...earlier, message("user", content)] : content;
    return { input, ...(previous && { previous_response_id: previous }) };
  }
}

/** Returns an input message. @param {string} role @param {unknown} content */
const message = (role, content) => ({ type: "message", role, content });

/** Returns true if an answer is still expected here. A prompt that was not accepted can only be sent with its files.
 * @param {Turn} turn
 */
export const isExpected = ({ status, files, request, responseId }) => !isEnd(status) && !(files && !request.input && responseId === null);

/** Returns the turns whose keys are not among those of others. @param {Turn[]} turns @param {Turn[]} others */
const without = (turns, others) => turns.filter(({ key }) => !others.some((other) => other.key === key));

/** Returns the turns in a stored value, or none if it is invalid, for example from another version.
 * @param {string | null | undefined} value @returns {Turn[]}
 */
function parse(value) {
  try {
    /** @type {Turn[]} */
    const turns = JSON.parse(value ?? "[]");
    return turns.every(({ prompt, key }) => typeof prompt === "string" && typeof key === "string") ? turns : [];
  } catch {
    return [];
  }
}

/** Returns true if a later prompt can build on a turn. A stopped answer belongs to the history; a failed one does not. @param {Turn} turn */
function continuable(turn) {
  return turn.responseId !== null && turn.text !== "" && ["completed", "incomplete", "cancelled"].includes(turn.status);
}

/** Returns the browser's storage of a kind, or a storage in memory if the page cannot use that.
 * @param {string} kind @returns {Place}
 */
export function storageOf(kind) {
  try {
    const found = kind === "session" ? globalThis.sessionStorage : kind === "none" ? null : globalThis.localStorage;
    found?.getItem("");
    if (found) return found;
  } catch {
    // A sandboxed page has no storage.
  }
  /** @type {Map<string, string>} */
  const kept = new Map();
  return {
    getItem: (name) => kept.get(name) ?? null,
    setItem: (name, value) => void kept.set(name, value),
    removeItem: (name) => void kept.delete(name),
  };
}
