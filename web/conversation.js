// @ts-check
/**
 * The conversation of a page, kept where a reload finds it. Pure but for the storage that it is given.
 *
 * A turn is stored before its prompt is sent, with the key of the request: a reload before the server has named the
 * response sends the same request with the same key, a later one follows the response. Both end up with one answer.
 */

/** @typedef {import("./answer.js").Status} Status */
/** @typedef {import("./protocol.js").Request} Request */

/**
 * @typedef {{
 *   prompt: string, request: Request, key: string, responseId: string | null, status: Status, text: string,
 *   note: string, model: string | null,
 * }} Turn one prompt and its answer; `note` is what is said under an answer that has ended
 */

const PLACE = "holdline.conversation";

/** More turns than this are forgotten from the beginning, so that the storage does not overflow. */
export const TURN_LIMIT = 100;

export class Conversation {
  /** @type {Turn[]} */
  turns = [];

  /** @param {Pick<Storage, "getItem" | "setItem" | "removeItem">} storage */
  constructor(storage) {
    this.storage = storage;
    this.turns = restored(storage);
  }

  /**
   * A new turn, stored. The model sees what came before by the id of the last response that can be continued.
   * @param {string} prompt
   * @param {string} key
   * @param {{whole?: boolean, like?: Turn}} [how] `whole`: send all earlier turns along, for a server that has forgotten
   *   them; `like`: with the request of another turn, to have it answered once more
   * @returns {Turn}
   */
  add(prompt, key, { whole = false, like } = {}) {
    const request = like?.request ?? this.#request(prompt, whole);
    /** @type {Turn} */
    const turn = {
      prompt, request, key, responseId: null, status: "sending", text: "", note: "", model: null,
    };
    this.turns = [...this.turns, turn].slice(-TURN_LIMIT);
    this.save();
    return turn;
  }

  /** @param {Turn} turn */
  remove(turn) {
    this.turns = this.turns.filter((other) => other !== turn);
    this.save();
  }

  clear() {
    this.turns = [];
    this.storage.removeItem(PLACE);
  }

  /** Writes it down; where there is no room, as many of the last turns as there is room for. */
  save() {
    for (let first = 0; first < this.turns.length; first = 2 * first + 1) {
      try {
        this.storage.setItem(PLACE, JSON.stringify(this.turns.slice(first)));
        return;
      } catch {
        // Full: the oldest turns are worth least.
      }
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
    const told = this.turns.filter((turn) => continuable(turn)).flatMap((turn) => [
      { type: "message", role: "user", content: turn.prompt },
      { type: "message", role: "assistant", content: turn.text },
    ]);
    return [...told, { type: "message", role: "user", content: prompt }];
  }
}

/** What was said counts, also if it was stopped half way; what failed is asked again. @param {Turn} turn */
function continuable(turn) {
  if (turn.responseId === null || turn.text === "") return false;
  return turn.status === "completed" || turn.status === "incomplete" || turn.status === "cancelled";
}

/** What a storage holds, or nothing: another version's remains are no reason to fail.
 * @param {Pick<Storage, "getItem">} storage
 * @returns {Turn[]}
 */
function restored(storage) {
  try {
    const turns = JSON.parse(storage.getItem(PLACE) ?? "[]");
    const whole = (/** @type {any} */ turn) => typeof turn.prompt === "string" && typeof turn.key === "string";
    return Array.isArray(turns) && turns.every(whole) ? turns : [];
  } catch {
    return [];
  }
}
