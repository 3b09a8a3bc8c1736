// @ts-check
/**
 * A conversation, kept where a reload and another tab find it. Pure but for the storage that it is given.
 *
 * A turn is stored before its prompt is sent, with the key of the request: a reload before the server has named the
 * response sends the same request with the same key, a later one follows the response. Both end up with one answer, and
 * so do two tabs. What is stored is the truth; each write changes one turn of it.
 */

/** @typedef {import("./response-state.js").Status} Status */
/** @typedef {import("./protocol.js").Request} Request */

/**
 * @typedef {{
 *   prompt: string, request: Request, key: string, at: number, responseId: string | null, status: Status, text: string,
 *   note: string, model: string | null, aside?: import("./aside.js").Aside | null,
 * }} Turn one prompt and its answer; `at` in milliseconds; `note` is the line under an answer that has ended
 */

/** @typedef {Pick<Storage, "getItem" | "setItem" | "removeItem">} Place */

/** More turns than this are forgotten from the beginning, so that the storage does not overflow. */
export const TURN_LIMIT = 100;

export class Conversation {
  /** @type {Turn[]} */
  turns = [];

  /** @param {Place} storage @param {string} [name] under which it is stored */
  constructor(storage, name = "holdline.conversation") {
    this.storage = storage;
    this.name = name;
    this.sync();
  }

  /**
   * A new turn, stored. The model sees what came before by the id of the last response that can be continued.
   * @param {string} prompt
   * @param {string} key
   * @param {{whole?: boolean, like?: Turn, more?: object, at?: number}} [how] `whole`: send all earlier turns along, for a
   *   server that has forgotten them; `like`: with the request of another turn, to have it answered once more; `more`: of
   *   the request
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

  /** @param {Turn} turn */
  remove(turn) {
    this.turns = this.turns.filter((other) => other !== turn);
    this.#write(this.#stored().filter(({ key }) => key !== turn.key));
  }

  clear() {
    this.turns = [];
    this.storage.removeItem(this.name);
  }

  /** Writes a turn down, beside what other tabs have written. @param {Turn} turn */
  save(turn) {
    const stored = this.#stored();
    const place = stored.findIndex(({ key }) => key === turn.key);
    this.#write(place < 0 ? [...stored, turn] : stored.with(place, turn));
  }

  /** Takes over what another tab has written; a turn that is here stays the same object. */
  sync() {
    const here = new Map(this.turns.map((turn) => [turn.key, turn]));
    this.turns = this.#stored().map((turn) => {
      const known = here.get(turn.key);
      if (known) known.responseId ??= turn.responseId;
      return known ?? turn;
    });
  }

  /** Where there is no room, as many of the last turns as there is room for. @param {Turn[]} turns */
  #write(turns) {
    if (turns.length === 0) return this.storage.removeItem(this.name);
    for (let first = Math.max(0, turns.length - TURN_LIMIT); first < turns.length; first = 2 * first + 1) {
      try {
        this.storage.setItem(this.name, JSON.stringify(turns.slice(first)));
        return;
      } catch {
        // Full: the oldest turns are worth least.
      }
    }
  }

  /** What is stored, or nothing: another version's remains are no reason to fail. @returns {Turn[]} */
  #stored() {
    try {
      const turns = JSON.parse(this.storage.getItem(this.name) ?? "[]");
      const whole = (/** @type {any} */ turn) => typeof turn.prompt === "string" && typeof turn.key === "string";
      return Array.isArray(turns) && turns.every(whole) ? turns : [];
    } catch {
      return [];
    }
  }

  /** @param {string} prompt @param {boolean} whole @returns {Request} */
  #request(prompt, whole) {
    if (whole) return { input: this.#history(prompt) };
    const previous = this.turns.findLast((turn) => continuable(turn));
    return previous?.responseId ? { input: prompt, previous_response_id: previous.responseId } : { input: prompt };
  }

  /** @param {string} prompt */
  #history(prompt) {
    const earlier = this.turns.filter((turn) => continuable(turn)).flatMap((turn) => [
      { type: "message", role: "user", content: turn.prompt },
      { type: "message", role: "assistant", content: turn.text },
    ]);
    return [...earlier, { type: "message", role: "user", content: prompt }];
  }
}

/** A stopped answer is part of the history too; a failed prompt is asked again. @param {Turn} turn */
function continuable(turn) {
  return turn.responseId !== null && turn.text !== "" && ["completed", "incomplete", "cancelled"].includes(turn.status);
}

/** The storage of a kind, or one that forgets where the page may have none. @param {string} kind @returns {Place} */
export function storageOf(kind) {
  try {
    const found = kind === "session" ? globalThis.sessionStorage : kind === "none" ? null : globalThis.localStorage;
    found?.getItem("");
    if (found) return found;
  } catch {
    // A page in a sandbox.
  }
  /** @type {Map<string, string>} */
  const kept = new Map();
  return {
    getItem: (name) => kept.get(name) ?? null,
    setItem: (name, value) => void kept.set(name, value),
    removeItem: (name) => void kept.delete(name),
  };
}
