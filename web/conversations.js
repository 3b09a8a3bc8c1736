// @ts-check
/**
 * Follows a conversation, or the list of all conversations of an end user, over a `HoldlineClient`.
 *
 *     const conversation = followConversation(client, "conv_...");
 *     conversation.addEventListener("change", () => show(conversation.state.path()));
 *
 * After a lost connection, the followers send their cursor and receive the events that follow.
 */

import { ConversationState } from "./conversation-state.js";
import { follow, markRead, unfollow } from "./feed-messages.js";

export { answerOf, ConversationState, markdownOf, promptOf } from "./conversation-state.js";

/** @typedef {import("./client.js").HoldlineClient} HoldlineClient */
/** @typedef {import("./protocol.js").ServerEvent} ServerEvent */
/** @typedef {import("./response-state.js").Failure} Failure */

/**
 * A conversation in the list of an end user, as `GET /v1/conversations` returns it.
 * @typedef {{
 *   id: string, created_at: number, metadata: {[name: string]: string},
 *   holdline: {updated_at_ms: number, running: string[], read: number, unread: boolean, sequence_number: number},
 * }} Listed
 */

/** The time until a refused follow is sent again, in milliseconds, if the server does not state it. */
const FOLLOW_AGAIN_MS = 2_000;

/**
 * A feed that a client follows. Events: `change` after each change; `error` if the server refuses to let the client
 * follow, with the failure as `detail`. A temporary refusal is retried and causes no event.
 */
class Follower extends EventTarget {
  /** True if all events up to the last `holdline:following` have arrived. */ current = false;
  /** Why the feed cannot be followed, or null. @type {Failure | null} */ error = null;
  #leave = new AbortController();
  /** @type {any} */ #timer = 0;

  /** @param {HoldlineClient} client @param {string | null} about the id of a conversation, or null for the list */
  constructor(client, about) {
    super();
    this.client = client;
    this.about = about;
    const { signal } = this.#leave;
    client.addEventListener("state", () => this.#stateChanged(), { signal });
    client.addEventListener("feed", (event) => this.#receive(/** @type {CustomEvent<ServerEvent>} */ (event).detail), { signal });
  }

  /** Ends following. */
  close() {
    this.client.send(unfollow(this.about));
    this.stop();
  }

  /** Sends the cursor. */
  follow() {
    if (!this.#leave.signal.aborted) this.client.send(follow(this.about, this.cursor));
  }

  /** Stops listening, because the server has stopped sending. */
  stop() {
    this.#leave.abort();
    clearTimeout(this.#timer);
  }

  /** The number and the id of the last event. @returns {import("./feed-messages.js").Cursor} */
  get cursor() {
    return { number: -1, id: null };
  }

  /** @param {ServerEvent} event */
  receive(event) {
    throw new TypeError(`unexpected event ${event.type}`);
  }

  /** Dispatches `change`. @param {boolean} [current] */
  changed(current = this.current) {
    this.current = current;
    this.dispatchEvent(new Event("change"));
  }

  #stateChanged() {
    clearTimeout(this.#timer);
    if (this.client.state === "open") this.follow();
  }

  /** @param {ServerEvent} event */
  #receive(event) {
    if (event.type !== "error") return this.receive(event);
    if ((event.conversation ?? null) !== this.about) return;
    const { code = "unknown", message = "", headers } = event.error ?? {};
    const status = event.status ?? 0;
    if (status === 429 || status >= 500) {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.follow(), 1_000 * Number(headers?.["Retry-After"] ?? 0) || FOLLOW_AGAIN_MS);
      return;
    }
    this.error = { code: event.error?.holdline?.error_code ?? code, message, status };
    this.stop();
    this.dispatchEvent(new CustomEvent("error", { detail: this.error }));
  }
}

/** Follows one conversation. `state` is its current state, also while the client is not connected. */
export class ConversationFollower extends Follower {
  #target = Infinity;

  /** @param {HoldlineClient} client @param {string} id */
  constructor(client, id) {
    super(client, id);
    this.state = new ConversationState(id);
    if (client.state === "open") this.follow();
  }

  /** @override @returns {import("./feed-messages.js").Cursor} */
  get cursor() {
    return { number: this.state.lastSequenceNumber, id: this.state.eventId };
  }

  /** Marks the conversation as read up to the last event that has arrived, on all devices of the user. */
  markRead() {
    if (this.state.unread) this.client.send(markRead(this.state.id, this.state.lastSequenceNumber));
  }

  /** @override @param {ServerEvent} event */
  receive(event) {
    const { id } = this.state;
    if (event.type === "holdline:following") {
      if (event.conversation?.id !== id) return;
      if (event.reset) this.state = new ConversationState(id);
      this.#target = Number(event.sequence_number);
    } else {
      const outcome = this.state.apply(event);
      if (outcome === "gap") return this.follow();
      if (outcome !== "applied") return;
      if (this.state.deleted) this.stop();
    }
    this.changed(this.state.lastSequenceNumber >= this.#target);
  }
}

/** Follows the list of the end user's conversations. The client's token must name a subject. */
export class ListFollower extends Follower {
  /** The known conversations by id. @type {Map<string, Listed>} */ #known = new Map();
  /** @type {import("./feed-messages.js").Cursor} */ #cursor = { number: null, id: null };
  /** True if the server has more conversations than are known. */ hasMore = false;

  /** @param {HoldlineClient} client */
  constructor(client) {
    super(client, null);
    if (client.state === "open") this.follow();
  }

  /** The known conversations, the last changed one first. @returns {Listed[]} */
  get conversations() {
    return [...this.#known.values()].sort((a, b) => b.holdline.updated_at_ms - a.holdline.updated_at_ms);
  }

  /** @override @returns {import("./feed-messages.js").Cursor} */
  get cursor() {
    return this.#cursor;
  }

  /** Adds conversations that were fetched from `GET /v1/conversations`, unless a later state is known. @param {Listed[]} found */
  add(found) {
    this.#keep(found);
    this.changed();
  }

  /** @param {Listed[]} found */
  #keep(found) {
    for (const one of found) {
      const known = this.#known.get(one.id);
      if (!known || known.holdline.sequence_number <= one.holdline.sequence_number) this.#known.set(one.id, one);
    }
  }

  /** @override @param {ServerEvent} event */
  receive(event) {
    switch (event.type) {
      case "holdline:following":
        if (!Array.isArray(event.conversations)) return;
        if (event.reset || !this.current) this.#known = new Map();
        this.hasMore = event.has_more === true;
        this.#moved(event);
        this.#keep(event.conversations);
        return this.changed(true);
      case "holdline:list.changed":
        this.#moved(event);
        return this.add([event.conversation]);
      case "holdline:list.deleted":
        this.#moved(event);
        this.#known.delete(event.conversation);
        return this.changed();
    }
  }

  /** @param {ServerEvent} event */
  #moved({ sequence_number: number, event_id: id }) {
    this.#cursor = { number: number ?? null, id: id ?? null };
  }
}

/** Follows a conversation from its first event on. A client follows each conversation once. @param {HoldlineClient} client @param {string} id */
export const followConversation = (client, id) => new ConversationFollower(client, id);

/** Follows the list of the end user's conversations. @param {HoldlineClient} client */
export const followConversations = (client) => new ListFollower(client);
