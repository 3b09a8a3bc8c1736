// @ts-check
/**
 * A conversation kept in a storage, such as `localStorage`, so that it survives reloads and is shared with other tabs.
 * This module performs no other I/O.
 *
 * A turn is stored with its request's idempotency key before its prompt is sent. After a reload, the page sends the same
 * request with the same key if the response has no id yet, and otherwise follows the response. Either way there is only
 * one answer, even if two tabs do this. The storage is authoritative, and each write changes one turn.
 */

/** @typedef {import("./response-state.js").Status} Status */
/** @typedef {import("./protocol.js").Request} Request */

/**
 * @typedef {{
 *   prompt: string, request: Request, key: string, at: number, responseId: string | null, status: Status, text: string,
 *   note: string, model: string | null, aside?: import("./aside.js").Aside | null,
 * }} Turn one prompt and its answer; `at` is in milliseconds; `note` is the line under a finished answer
 */

/** @typedef {Pick<Storage, "getItem" | "setItem" | "removeItem">} Place */

/** The maximum number of turns. The oldest turns are deleted first, so that the storage does not overflow. */
export const TURN_LIMIT = 100;

export class Conversation {
  /** @type {Turn[]} */
  turns = [];

  /** Reads the stored turns. @param {Place} storage @param {string} [name] the storage key */
  constructor(storage, name = "holdline.conversation") {
    this.storage = storage;
    this.name = name;
    this.sync();
  }

  /**
   * Adds and stores a turn. The request names the last continuable response, so that the model sees the history.
   * @param {string} prompt
   * @param {string} key
   * @param {{whole?: boolean, like?: Turn, more?: object, at?: number}} [how] `whole`: include all earlier turns, for a
   *   server that has deleted them; `like`: repeat the request of this turn; `more`: further fields of the request
   * @returns {Turn}
   */
  add(prompt, key, { whole = false, like, more = {}, at = Date.now() } = {}) {
    const request = like?.request ?? { ...more, ...this.#request(prompt, whole) };
    /** @type {Turn} */
    const turn = {
      prompt, request, key, at, responseId: null, status: "sending", text: "", note: "", model: null,
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

  /** Stores a turn, and keeps the turns that other tabs have stored. @param {Turn} turn */
  save(turn) {
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
   * `whole` is true.
   * @param {string} prompt @param {boolean} whole @returns {Request}
   */
  #request(prompt, whole) {
    if (whole) return { input: this.#history(prompt) };
    const previous = this.turns.findLast(continuable)?.responseId;
    return { input: prompt, ...(previous && { previous_response_id: previous }) };
  }

  /** Returns the earlier turns and the prompt as input messages. @param {string} prompt */
  #history(prompt) {
    const earlier = this.turns.filter(continuable).flatMap((turn) => [
      { type: "message", role: "user", content: turn.prompt },
      { type: "message", role: "assistant", content: turn.text },
    ]);
    return [...earlier, { type: "message", role: "user", content: prompt }];
  }
}

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

/** Whether a later prompt can build on a turn. A stopped answer belongs to the history; a failed one does not. @param {Turn} turn */
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
