// @ts-check
/**
 * A conversation on the server, which all devices of a user share. It takes the place of a `Conversation` in a thread.
 * Loaded if the element has the attribute `conversations`.
 *
 * The server is authoritative. The browser's storage contains only the id of the conversation and the prompts that are not
 * in the conversation yet, so that they survive a reload. A prompt without a conversation is held until one was created.
 */

import { asideOf } from "./aside.js";
import { answerOf, followConversation, followConversations, promptOf } from "./conversations.js";
import { isExpected } from "./conversation.js";
import { ListButton } from "./list-button.js";
import { ownerOf } from "./protocol.js";
import { STATUS, statusWords } from "./status.js";

/** @typedef {import("./conversation.js").Turn & {from?: string | null}} Turn `from` is the turn that the request continues: null for none, and undefined for the newest */
/** @typedef {import("./conversation-state.js").FeedTurn} FeedTurn */
/** @typedef {import("./client.js").HoldlineClient} HoldlineClient */

const TITLE_LENGTH = 80;
const CREATE_AGAIN_MS = 2_000;
const DEADLINE_MS = 15_000;
/** The end of the storage key for the id of the conversation. */
const CURRENT = "@";
/** The metadata that contains the widget's attribute `conversation`. */
const CHAT = "chat";

/**
 * Returns the conversation of an owner on the server, or the kept one if the owner has none, because the token names no
 * subject.
 * @param {import("./conversation.js").Conversation} kept holds the prompts that are not in the conversation yet
 * @param {string | null} owner @param {URL} server
 * @param {HTMLElement & {isOpen: boolean, tokenProvider: any}} host @param {object} words
 */
export function conversationOf(kept, owner, server, host, words) {
  return owner?.startsWith("[") ? new LiveConversation(kept, owner, server, host, words) : kept;
}

/** Adds the button that shows the list. @param {import("./panel.js").Panel} panel */
export const addList = (panel) => new ListButton(panel);

export class LiveConversation {
  /** @type {Turn[]} */ turns = [];
  /** The followed list of conversations. @type {import("./conversations.js").ListFollower | null} */ list = null;
  /** The id of the conversation; null before the first prompt. @type {string | null} */ id;
  /** @type {import("./conversations.js").ConversationFollower | null} */ #follower = null;
  /** @type {HoldlineClient | null} */ #client = null;
  /** @type {import("./thread.js").Thread | null} */ #thread = null;
  /** The turns in the feed by response id. @type {Map<string, Turn>} */ #known = new Map();
  /** The states in the feed from which the answers of turns come. @type {WeakMap<Turn, FeedTurn>} */ #sources = new WeakMap();
  /** The turns that were chosen on this device, of those that continue the same turn. @type {Set<string>} */ #chosen = new Set();
  /** True if the visitor has begun a new conversation. */ #fresh = false;
  #creating = false;
  /** The assistant's message before the first prompt. */ #opening;
  #leave = new AbortController();

  /** @param {import("./conversation.js").Conversation} kept @param {string} owner @param {URL} server
   * @param {HTMLElement & {isOpen: boolean, tokenProvider: any}} host @param {object} words
   */
  constructor(kept, owner, server, host, words) {
    this.kept = kept;
    this.#opening = kept.opening;
    this.owner = owner;
    this.server = server;
    this.host = host;
    this.words = { ...STATUS, ...words };
    this.id = kept.storage.getItem(kept.name + CURRENT);
    this.#merge();
  }

  get name() {
    return this.kept.name;
  }

  get storage() {
    return this.kept.storage;
  }

  /** The state of the conversation on the server, or null. */
  get state() {
    return this.#follower?.state ?? null;
  }

  /** The conversations of this widget, the last changed one first. */
  get conversations() {
    return (this.list?.conversations ?? []).filter(({ metadata }) => (metadata[CHAT] ?? "") === this.#chat);
  }

  /** The client that follows, or null before the first connection. */
  get client() {
    return this.#client;
  }

  /** The turns of the shown branch in the feed. */
  get shownPath() {
    return this.state?.path(this.#chosen) ?? [];
  }

  get #chat() {
    return this.host.getAttribute("conversation") ?? "";
  }

  /** Begins to follow over a client. @param {HoldlineClient} client @param {import("./thread.js").Thread} thread */
  attach(client, thread) {
    this.#leave.abort();
    this.#leave = new AbortController();
    const { signal } = this.#leave;
    this.#client = client;
    this.#thread = thread;
    this.list = followConversations(client);
    this.list.addEventListener("change", () => this.#listed(), { signal });
    client.addEventListener("state", () => {
      if (client.state === "closed") this.#leave.abort();
      else this.#create();
    }, { signal });
    this.host.addEventListener("open", () => this.#read(), { signal });
    document.addEventListener("visibilitychange", () => this.#read(), { signal });
    if (this.id) this.#follow(this.id);
  }

  /** Shows another conversation, or begins a new one if the id is null. @param {string | null} id */
  go(id) {
    const { storage, name } = this.kept;
    this.#fresh = id === null;
    if (id === this.id) return;
    this.#follower?.close();
    this.#follower = null;
    this.#known = new Map();
    this.#chosen = new Set();
    this.id = id;
    if (id === null) storage.removeItem(name + CURRENT);
    else storage.setItem(name + CURRENT, id);
    if (id !== null) this.#follow(id);
    this.#show();
  }

  /** Shows another turn of those that continue the same turn. @param {string} responseId */
  choose(responseId) {
    for (const { responseId: other } of this.state?.branch(responseId).turns ?? []) this.#chosen.delete(other);
    this.#chosen.add(responseId);
    this.#show();
  }

  /** Returns the ids of the turns that continue the same turn, and the place of one of them. @param {Turn} turn */
  branchOf({ responseId }) {
    const { place, turns } = this.state?.branch(responseId ?? "") ?? { place: -1, turns: [] };
    return { place, ids: turns.map((one) => one.responseId) };
  }

  /** Calls the Conversations API as the current user. Rejects with the `status` and the message of a refusal.
   * @param {string} method @param {string} path @param {object} [body] @param {string} [key] the idempotency key
   */
  async call(method, path, body, key) {
    const token = await this.host.tokenProvider?.();
    if (ownerOf(token) !== this.owner) throw new Error("another user has signed in");
    const reply = await fetch(new URL(`v1/conversations${path}`, this.server), {
      method,
      headers: {
        Authorization: `Bearer ${token}`, ...(body && { "Content-Type": "application/json" }), ...(key && { "Idempotency-Key": key }),
      },
      ...(body && { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(DEADLINE_MS),
    });
    const answer = await reply.json().catch(() => ({}));
    if (!reply.ok) throw Object.assign(new Error(answer.error?.message ?? reply.statusText), { status: reply.status });
    return answer;
  }

  // The members that a thread uses, as in `Conversation`.

  /**
   * Adds a turn. A turn that replaces another one becomes another branch.
   * @param {string} prompt @param {string} key @param {Parameters<import("./conversation.js").Conversation["add"]>[2]} [how]
   * @returns {Turn}
   */
  add(prompt, key, { instead, like, ...how } = {}) {
    const leaf = this.turns.findLast(({ responseId }) => responseId !== null);
    this.kept.opening = this.turns.length > 0 ? null : this.#opening;
    /** @type {Turn} */
    const turn = this.kept.add(prompt, key, {
      ...how, ...(like && { files: like.files, like: { ...like, request: { ...how.more, input: like.request.input ?? [] } } }),
    });
    if (instead?.responseId) turn.from = this.#previous(instead.responseId);
    else if (instead) Object.assign(turn, "from" in instead && { from: instead.from });
    else if (this.state?.branches) turn.from = leaf?.responseId ?? null;
    if (instead && this.kept.turns.includes(instead)) this.kept.remove(instead);
    this.#fresh = false;
    this.#prepare(turn);
    this.#merge();
    return turn;
  }

  /** Keeps a turn until it is in the feed. @param {Turn} turn */
  save(turn) {
    if (this.kept.turns.includes(turn)) this.kept.save(turn);
    if (turn.responseId !== null && turn.from !== undefined) this.#chosen.add(turn.responseId);
    this.#show();
  }

  /** @param {StorageEvent} [change] */
  sync(change) {
    this.kept.sync(change);
    this.#merge();
  }

  /** Begins a new conversation. */
  clear() {
    for (const turn of this.kept.turns.filter((one) => one.held || !isExpected(one))) this.kept.remove(turn);
    this.go(null);
    this.#merge();
  }

  // Private members.

  /** Returns the turn that a turn continues. @param {string} responseId */
  #previous(responseId) {
    const path = this.turns.map((turn) => turn.responseId);
    return path[path.indexOf(responseId) - 1] ?? null;
  }

  #show() {
    this.#merge();
    this.#thread?.list();
  }

  /** @param {string} id */
  #follow(id) {
    if (!this.#client) return;
    const before = this.#follower;
    const follower = this.#follower = followConversation(this.#client, id);
    if (before?.state.id === id) follower.state = before.state;
    let wasUnread = false;
    follower.addEventListener("change", () => {
      if (follower !== this.#follower) return;
      const { unread } = follower.state;
      if (wasUnread && !unread) this.#thread?.dispatchEvent(new Event("read"));
      wasUnread = unread;
      if (follower.state.deleted) this.go(null);
      else if (follower.current) this.#show();
      this.#read();
    });
    follower.addEventListener("error", () => {
      if (follower !== this.#follower) return;
      this.go(null);
      this.#fresh = false;
    });
  }

  /** Shows the last changed conversation on a device that has not shown one yet. */
  #listed() {
    const [newest] = this.conversations;
    if (newest && this.id === null && !this.#fresh && !this.kept.turns.some(({ held }) => held)) this.go(newest.id);
  }

  /** Marks the conversation as read if the visitor can see it. */
  #read() {
    if (this.host.isOpen && document.visibilityState === "visible" && this.#follower?.current) this.#follower.markRead();
  }

  /** Completes the request of a turn, which from now on is sent with the same body. @param {Turn} turn */
  #prepare(turn) {
    turn.held = this.id === null;
    if (this.id !== null) {
      turn.request = { ...turn.request, conversation: this.id, ...(turn.from !== undefined && { holdline: { previous_response_id: turn.from } }) };
    }
    this.kept.save(turn);
    if (turn.held) void this.#create();
  }

  /** Creates the conversation of the held prompts, and retries after a temporary error. */
  async #create() {
    const held = this.kept.turns.filter((turn) => turn.held && isExpected(turn));
    const [first] = held;
    if (!first || this.#creating || this.#client?.state !== "open") return;
    this.#creating = true;
    const title = (first.prompt || (first.files?.[0]?.name ?? "")).replace(/\s+/g, " ").slice(0, TITLE_LENGTH);
    const { signal } = this.#leave;
    try {
      const chat = this.#chat;
      const made = await this.call("POST", "", { metadata: { title, ...(chat && { [CHAT]: chat }) } }, `${first.key}-c`);
      if (signal.aborted) return;
      this.go(made.id);
      for (const turn of held) this.#prepare(turn);
    } catch (error) {
      const { status = 0, message } = /** @type {Error & {status?: number}} */ (error);
      if (status >= 400 && status < 500 && status !== 429) {
        for (const turn of held) {
          Object.assign(turn, { held: false, status: "failed", note: message });
          this.kept.save(turn);
        }
      } else setTimeout(() => this.#create(), CREATE_AGAIN_MS);
    } finally {
      this.#creating = false;
    }
    this.#show();
  }

  /** Computes the turns: those of the active branch in the feed, and the prompts that are not in the feed yet. */
  #merge() {
    const { state } = this;
    const isHere = (/** @type {Turn} */ turn) => (turn.held ? null : turn.request.conversation ?? this.id) === this.id;
    for (const turn of this.kept.turns.filter(({ responseId }) => responseId !== null && state?.turns.has(responseId))) {
      this.#known.set(/** @type {string} */ (turn.responseId), turn);
      this.kept.remove(turn);
    }
    const waiting = this.kept.turns.filter(isHere);
    const path = this.shownPath;
    // A request that replaces a turn is shown in its place at once.
    const from = /** @type {Turn | undefined} */ (waiting.findLast((turn) => isExpected(turn)))?.from;
    const shown = from === undefined ? path : path.slice(0, path.findIndex(({ responseId }) => responseId === from) + 1);
    // The feed may announce a response before its id has reached the prompt that was sent here.
    const isOwn = (/** @type {FeedTurn} */ turn) => turn.status === "in_progress" && !this.#known.has(turn.responseId)
      && waiting.some((one) => one.responseId === null && isExpected(one) && one.prompt === promptOf(turn).text);
    this.turns = [...shown.filter((turn) => !isOwn(turn)).map((turn) => this.#turnOf(turn)), ...waiting];
  }

  /** Returns the turn of the thread for a turn of the feed. @param {FeedTurn} fed */
  #turnOf(fed) {
    const { responseId } = fed;
    let turn = this.#known.get(responseId);
    // A client may have deleted a prompt from the conversation.
    if (turn?.prompt !== promptOf(fed).text) turn = turnFrom(fed);
    this.#known.set(responseId, turn);
    turn.feedbackEvent = fed.feedbackEvent;
    const isFollowed = this.#thread?.entries.some((entry) => entry.turn === turn && entry.handle);
    if (fed.status === "in_progress" || isFollowed || this.#sources.get(turn) === fed) return turn;
    const answer = answerOf(fed);
    const isSame = !this.#sources.has(turn) && answer.text === turn.text && answer.status === turn.status;
    this.#sources.set(turn, fed);
    // An answer that was followed here may have more details than the feed, such as the cause of a failure.
    if (isSame) return turn;
    const note = statusWords(/** @type {any} */ ({ answer, verified: null, stopping: false, busy: false }), "open", this.words);
    return Object.assign(turn, { text: answer.text, status: answer.status, model: answer.model, aside: asideOf(answer), note: answer.status === "completed" ? "" : note });
  }
}

/** Makes the turn of a response that was requested elsewhere. @param {FeedTurn} fed @returns {Turn} */
function turnFrom(fed) {
  const { text, files } = promptOf(fed);
  // The server gives the items of another request other ids.
  const input = fed.input.map(({ id: _, status: __, ...item }) => item);
  return {
    prompt: text, request: { input }, key: fed.responseId, at: fed.at, responseId: fed.responseId, status: "sending", text: "", note: "",
    model: null, ...(files.length > 0 && { files: files.map(fileOf) }),
  };
}

/** Returns the name, the size and the type of an image or file. @param {import("./protocol.js").Json} part */
function fileOf({ type, filename, image_url: image, file_data: data }) {
  const url = String(image ?? data ?? "");
  const [kind] = /^data:[^;,]*/.exec(url) ?? [];
  return {
    name: String(filename ?? (type === "input_image" ? "image" : "file")), size: Math.floor(0.75 * (url.length - url.indexOf(",") - 1)),
    type: kind?.slice("data:".length) || (type === "input_image" ? "image/*" : ""),
  };
}
