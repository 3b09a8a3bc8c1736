// @ts-check
/**
 * Builds the state of one conversation from the events of its feed. This module performs no I/O.
 *
 * The turns form a tree, because a request can continue an earlier turn: an answer that was generated again and an edited
 * prompt are siblings of the earlier turn. `path` returns one branch of the tree.
 */

import { ResponseState } from "./response-state.js";

/** @typedef {import("./protocol.js").Json} Json */
/** @typedef {import("./protocol.js").ServerEvent} ServerEvent */

/**
 * One request and its answer. `previous` is the turn that the request continues, or null. `status` is `in_progress` until
 * the response has ended, and `deleted` if the response does not exist any more. `input` and `output` contain the items.
 * A turn and its lists are never modified: each event replaces those that it changes, so a change is found by comparing them.
 * @typedef {{
 *   responseId: string, previous: string | null, status: string, at: number, model: string | null, input: Json[], output: Json[],
 *   feedbackEvent: number,
 * }} FeedTurn `at` is the time of the request in milliseconds, and `model` the model that answered, or null; `feedbackEvent` is the
 *   number of the last event about the feedback on the response, or -1
 */

/** The turns that continue the same turn, oldest first, and the place of one of them. @typedef {{place: number, turns: FeedTurn[]}} Branch */

/** The prefix of the types of events in the feed of a conversation. */
const KIND = "holdline:conversation.";

export class ConversationState {
  lastSequenceNumber = -1;
  /** The id of the last event. @type {string | null} */ eventId = null;
  /** @type {{[name: string]: string}} */ metadata = {};
  /** The turns by response id, in the order in which the server accepted them. @type {Map<string, FeedTurn>} */ turns = new Map();
  /** The items that belong to no response, because a client added them. @type {Json[]} */ added = [];
  /** The number of the last event that the user has read, or -1. */ read = -1;
  /** The number of the last event about items, or -1. */ news = -1;
  deleted = false;
  /** The ids of deleted items. @type {Set<string>} */ #gone = new Set();

  /** @param {string} id */
  constructor(id) {
    this.id = id;
  }

  get title() {
    return this.metadata.title ?? "";
  }

  get unread() {
    return this.news > this.read;
  }

  /** The ids of the responses that have not ended. */
  get running() {
    return [...this.turns.values()].filter(({ status }) => status === "in_progress").map(({ responseId }) => responseId);
  }

  /**
   * Applies an event. The outcome is `applied`; `seen` for a duplicate; `gap` if earlier events are missing; or `ignored`
   * for an event that is not in the feed.
   * @param {ServerEvent} event
   * @returns {import("./response-state.js").Outcome}
   */
  apply(event) {
    const { sequence_number: number, type } = event;
    if (event.conversation !== this.id) return "ignored";
    if (type === `${KIND}deleted`) this.deleted = true;
    if (this.deleted) return "applied";
    if (typeof number !== "number" || !type.startsWith(KIND)) return "ignored";
    if (number <= this.lastSequenceNumber) return "seen";
    if (number > this.lastSequenceNumber + 1) return "gap";
    this.lastSequenceNumber = number;
    this.eventId = event.event_id ?? null;
    this.#apply(type.slice(KIND.length), number, event);
    return "applied";
  }

  /**
   * Returns one branch of the turns, oldest first: of turns that continue the same turn, the chosen one or the newest.
   * @param {{has: (responseId: string) => boolean}} [chosen] the response ids of the chosen turns
   */
  path(chosen = new Set()) {
    const children = this.#children();
    /** @type {FeedTurn[]} */
    const path = [];
    for (let next = children.get(null); next; next = children.get(path.at(-1)?.responseId ?? "")) {
      path.push(/** @type {FeedTurn} */ (next.findLast(({ responseId }) => chosen.has(responseId)) ?? next.at(-1)));
    }
    return path;
  }

  /** Returns the turns that continue the same turn as a turn does, or none if the turn is unknown. @param {string} responseId @returns {Branch} */
  branch(responseId) {
    const turn = this.turns.get(responseId);
    const turns = (turn && this.#children().get(this.#parent(turn))) ?? [];
    return { place: turns.findIndex((one) => one.responseId === responseId), turns };
  }

  /** True if the turns have more than one branch. */
  get branches() {
    return [...this.#children().values()].some(({ length }) => length > 1);
  }

  /** Returns the turns by the turn that they continue. */
  #children() {
    /** @type {Map<string | null, FeedTurn[]>} */
    const children = new Map();
    for (const turn of this.turns.values()) {
      if (isEmpty(turn)) continue;
      const parent = this.#parent(turn);
      children.set(parent, [...children.get(parent) ?? [], turn]);
    }
    return children;
  }

  /** Returns the turn that a turn continues, without turns whose items were deleted. @param {FeedTurn | undefined} turn @returns {string | null} */
  #parent(turn) {
    let previous = turn && this.turns.get(turn.previous ?? "");
    while (previous && isEmpty(previous)) previous = this.turns.get(previous.previous ?? "");
    return previous?.responseId ?? null;
  }

  /** @param {string} kind @param {number} number @param {ServerEvent} event */
  #apply(kind, number, { response_id: id = "", ...event }) {
    const turn = this.turns.get(id);
    switch (kind) {
      case "created":
      case "updated":
        this.metadata = event.metadata ?? {};
        return;
      case "read":
        this.read = Math.max(this.read, Number(event.read));
        return;
      case "response.created":
        this.turns.set(id, {
          responseId: id, previous: event.previous_response_id ?? null, status: "in_progress", at: 1_000 * event.created_at,
          model: null, input: [], output: [], feedbackEvent: -1,
        });
        return;
      case "response.ended":
        if (turn) this.turns.set(id, { ...turn, status: event.status, model: event.model ?? null });
        return;
      case "feedback":
        if (turn) this.turns.set(id, { ...turn, feedbackEvent: number });
        return;
      case "items.added": {
        this.news = number;
        const items = (event.items ?? []).filter((/** @type {Json} */ item) => !this.#gone.has(item.id));
        if (!turn) this.added.push(...items);
        else if (event.field === "input") this.turns.set(id, { ...turn, input: [...turn.input, ...items] });
        else this.turns.set(id, { ...turn, output: [...turn.output, ...items] });
        return;
      }
      case "item.deleted":
        this.#gone.add(event.item_id);
        this.added = withoutItem(this.added, event.item_id);
        for (const one of this.turns.values()) {
          const [input, output] = [withoutItem(one.input, event.item_id), withoutItem(one.output, event.item_id)];
          if (input !== one.input || output !== one.output) this.turns.set(one.responseId, { ...one, input, output });
        }
    }
  }
}

/** Returns the text and the files' names of the last user message in the input of a turn. @param {FeedTurn} turn */
export function promptOf({ input }) {
  const content = input.findLast(({ role }) => role === "user")?.content ?? "";
  const parts = typeof content === "string" ? [{ type: "input_text", text: content }] : listed(content);
  const text = parts.filter(({ type }) => type === "input_text").map((part) => String(part.text)).join("");
  return { text, files: parts.filter(({ type }) => type === "input_image" || type === "input_file") };
}

/** Returns the answer of an ended turn as the state of its response. @param {FeedTurn} turn */
export function answerOf({ responseId, output, status, model }) {
  const answer = new ResponseState(responseId);
  const ended = status === "deleted" ? (output.length > 0 ? "completed" : "cancelled") : status;
  answer.apply({ type: "response.completed", sequence_number: 0, response: { id: responseId, status: ended, output, model } });
  return answer;
}

/** Returns a conversation as Markdown. @param {string} title @param {FeedTurn[]} path @param {{you: string, answer: string}} words */
export function markdownOf(title, path, words) {
  const turns = path.map((turn) => {
    const { text, files } = promptOf(turn);
    const names = files.map(({ filename }) => `[${filename ?? "image"}]`);
    return `## ${words.you}\n\n${[text, ...names].join("\n")}\n\n## ${words.answer}\n\n${answerOf(turn).text}\n`;
  });
  return [`# ${title}\n`, ...turns].join("\n");
}

/** Returns true if a turn has no items, because they were deleted, or because the event with its input has not arrived yet. @param {FeedTurn} turn */
const isEmpty = ({ input, output }) => input.length + output.length === 0;

/** Returns the items without one of them, or the same list if it does not contain that item. @param {Json[]} items @param {string} id */
const withoutItem = (items, id) => (items.some((item) => item.id === id) ? items.filter((item) => item.id !== id) : items);

/** @param {unknown} value @returns {Json[]} */
const listed = (value) => (Array.isArray(value) ? value.filter((part) => typeof part === "object" && part !== null) : []);
