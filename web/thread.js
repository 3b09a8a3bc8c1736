// @ts-check
/**
 * Runs a conversation over one client: it connects each turn with the handle of its answer. It draws nothing.
 *
 * The thread reads the owner of each token before it sends the token. If the owner has changed, it closes the connection
 * and continues with the new owner's conversation. The old conversation, with its unsent prompts, stays stored.
 *
 * Events: `message` when a prompt was accepted and `answer` when its answer has ended, both with the turn as `detail`;
 * `state` after each change of the connection; `left` after a switch to another owner's conversation; `read` when the user has
 * read the conversation on another device.
 */

import { HoldlineClient } from "./client.js";
import { isExpected } from "./conversation.js";
import { PONG_DEADLINE_MS } from "./connection.js";
import { attachPage } from "./page-life.js";
import { lifetimeOf, ownerOf, randomId } from "./protocol.js";

/** @typedef {import("./conversation.js").Turn} Turn */
/** @typedef {import("./answer-handle.js").AnswerHandle} AnswerHandle */
/** @typedef {{turn: Turn, handle: AnswerHandle | null}} Entry */

/**
 * The settings of a thread.
 * @typedef {string | null | undefined} Token null while no user is signed in; undefined if the page uses no tokens
 * @typedef {Pick<import("./conversation.js").Conversation, "turns" | "name" | "storage" | "add" | "clear" | "save" | "sync"> & {
 *   attach?: (client: HoldlineClient, thread: Thread) => void, choose?: (responseId: string) => void,
 *   branchOf?: (turn: Turn) => {place: number, ids: string[]},
 * }} Kept a conversation in a storage, or one on the server, which has `attach`: it begins to follow over a client
 * @typedef {{
 *   url: string, owner: string | null, conversation: (owner: string | null) => Kept,
 *   note: (handle: AnswerHandle, state: import("./connection.js").State) => string,
 *   aside: (handle: AnswerHandle) => import("./aside.js").Aside | null,
 *   more: () => object, token: () => (Promise<Token> | Token), page: Window | null,
 *   platform?: Partial<import("./connection.js").Platform>,
 * }} Setting `owner` is null until a token names it, and such a conversation is not stored; `more` is added to each request; `note` and `aside` are stored with a finished answer
 */

/** The minimum time between two fetches of a token after refusals, in milliseconds. */
const TOKEN_PAUSE_MS = 10_000;
/** How long an open connection waits for a token before it sends a message without one, in milliseconds. */
const ANONYMOUS_MS = 2_000;
/** The fraction of a token's lifetime after which it is replaced. */
const RENEW = 0.7;

export class Thread extends EventTarget {
  /** @type {Entry[]} */
  entries = [];
  /**
   * Called when something has to be drawn. It is a callback and not an event, because it is called for each piece of an
   * answer.
   */
  changed = () => {};
  /** True if the server reports that answers may be delayed. */
  degraded = false;

  /** @type {HoldlineClient | null} */ #client = null;
  /** @type {() => void} */ #detach = () => {};
  /** True if `start` was called. */
  begun = false;
  /** True if the client stays closed until there is another token. */ #final = false;
  #tokenAt = -TOKEN_PAUSE_MS;
  /** The state without a client: `closed` if no user was signed in. @type {import("./connection.js").State} */ #idle = "connecting";
  /** The last call to the token provider. @type {Promise<Token> | null} */ #asked = null;
  /** The timer that renews the token before it expires. @type {any} */ #renewal = 0;

  /** Reads the conversation of the owner from the storage. @param {Setting} setting */
  constructor(setting) {
    super();
    this.setting = setting;
    this.owner = setting.owner;
    this.conversation = setting.conversation(this.owner);
    this.entries = this.conversation.turns.map((turn) => ({ turn, handle: null }));
  }

  /** True if a turn has no finished answer. */
  get unfinished() {
    return this.conversation.turns.some(isExpected);
  }

  /** The entry whose answer is not finished. */
  get active() {
    return this.entries.findLast(({ turn, handle }) => handle !== null || isExpected(turn));
  }

  get state() {
    return this.#client?.state ?? this.#idle;
  }

  get closed() {
    return this.#client?.closed ?? null;
  }

  /** The limits of the server, once the connection has been established. @returns {{[name: string]: any}} */
  get limits() {
    return this.#client?.limits ?? {};
  }

  /** Connects and continues unfinished turns. Further calls have no effect. */
  start() {
    if (this.begun) return;
    this.begun = true;
    void this.#connect();
  }

  /** Closes the connection. The server continues unfinished answers. */
  end() {
    this.begun = false;
    this.#asked = null;
    clearTimeout(this.#renewal);
    this.#detach();
    for (const entry of this.entries) entry.handle = null;
    this.#client?.close();
    this.#client = null;
  }

  /** Fetches a token again, because the token provider may return another one now. */
  async renew() {
    const client = this.#client;
    const token = await this.#token();
    if (client !== this.#client) return;
    if (client?.closed) void this.#connect(token);
    else if (client) this.#give(client, token);
  }

  /** Connects with a token. If no user is signed in, connects only for an unfinished turn.
   * @param {Token} [given] the token if it is known already
   */
  async #connect(given) {
    this.#tokenAt = Date.now();
    this.#final = false;
    const before = this.#client;
    const token = given === undefined ? await this.#token() : given;
    if (!this.begun || before !== this.#client) return;
    if (token === null && !this.unfinished) {
      // The server would close a socket without a token. `start` calls the token provider again.
      this.begun = false;
      this.#idle = "closed";
      return this.#dispatch("state");
    }
    this.#detach();
    const client = new HoldlineClient(this.setting.url, this.setting.platform);
    this.#client = client;
    this.#give(client, token);
    if (this.setting.page) this.#detach = attachPage(client, this.setting.page);
    this.conversation.attach?.(client, this);
    client.addEventListener("state", () => this.#stateChanged(client));
    client.addEventListener("degraded", (event) => {
      this.degraded = /** @type {CustomEvent} */ (event).detail.degraded === true;
      this.#dispatch("state");
    });
    client.addEventListener("expiring", async () => this.#give(client, await this.#token()));
    this.entries.forEach((entry) => this.#takeUp(entry));
    this.#stateChanged(client);
  }

  /** Reacts to a new state of the connection, and fetches a fresh token for the next connection.
   * @param {HoldlineClient} client
   */
  #stateChanged(client) {
    if (client !== this.#client) return;
    if (client.state === "open") {
      this.degraded = false;
      // Without a token, a server that requires one closes the socket at the first message, and otherwise later.
      setTimeout(async () => {
        if (await this.#asked === undefined && !this.active && client.state === "open") client.probe(PONG_DEADLINE_MS);
      }, ANONYMOUS_MS);
    }
    this.#dispatch("state");
    this.changed();
    if (client.closed?.code === 4401 && Date.now() - this.#tokenAt > TOKEN_PAUSE_MS) void this.#connect();
    else this.#final = client.closed !== null;
    // The token may have expired, so a fresh one is fetched for the next connection.
    if (client.state === "reconnecting") void this.#token().then((token) => this.#give(client, token));
  }

  /** Sends a token to the server, and schedules its renewal. @param {HoldlineClient} client @param {Token} token */
  #give(client, token) {
    if (!token || client !== this.#client) return;
    clearTimeout(this.#renewal);
    client.authenticate(token);
    const lifetime = lifetimeOf(token);
    if (lifetime > 0) this.#renewal = setTimeout(async () => this.#give(client, await this.#token()), RENEW * lifetime);
  }

  /**
   * Returns a fresh token, or "" if the token provider failed. If calls overlap, all of them return the token of the
   * last call.
   * @returns {Promise<Token>}
   */
  #token() {
    /** @type {Promise<Token>} */
    const asked = Promise.resolve().then(this.setting.token).then((token) => {
      if (asked !== this.#asked) return this.#asked;
      this.#own(token);
      return token;
    }).catch((error) => console.error("Holdline: tokenProvider failed", error) ?? "");
    return this.#asked = asked;
  }

  /** Switches to the conversation of the user that a token names. @param {Token} token */
  #own(token) {
    const owner = ownerOf(token);
    if (owner === this.owner) return;
    const [begun, client, known] = [this.begun, this.#client, this.owner !== null];
    const unowned = known ? [] : this.entries;
    this.end();
    this.owner = owner;
    this.conversation = this.setting.conversation(owner);
    for (const { turn } of unowned) this.conversation.add(turn.prompt, turn.key, { ...contentOf(turn), more: this.setting.more() });
    this.entries = this.conversation.turns.map((turn) => ({ turn, handle: null }));
    this.begun = begun || this.unfinished;
    if (this.begun && (client || !begun)) void this.#connect(token);
    if (known) this.#dispatch("left");
    this.changed();
  }

  /**
   * Sends a prompt, unless an answer is being generated.
   * @param {string} prompt
   * @param {import("./conversation.js").Content & {whole?: boolean, instead?: Turn, like?: Turn, key?: string}} [how] `instead`: the turn to
   *   replace; `key`: the idempotency key
   * @returns {Turn | null}
   */
  ask(prompt, how = {}) {
    if (this.active && this.active.turn !== how.instead) return null;
    const turn = this.conversation.add(prompt, how.key ?? randomId(), { ...how, more: this.setting.more() });
    this.list();
    this.#dispatch("message", turn);
    return turn;
  }

  stop() {
    this.active?.handle?.stop();
  }

  /** Stops the current answer and deletes the conversation, or leaves it if it is on the server. */
  clear() {
    if (!this.conversation.attach) this.stop();
    this.conversation.clear();
    this.list();
  }

  /** Applies the changes that other tabs have stored. @param {StorageEvent} [change] */
  sync(change) {
    this.conversation.sync(change);
    this.list();
  }

  /** Shows the turns of the conversation, and continues the unfinished ones. */
  list() {
    const here = new Map(this.entries.map((entry) => [entry.turn, entry]));
    this.entries = this.conversation.turns.map((turn) => here.get(turn) ?? { turn, handle: null });
    if (this.#client) this.entries.forEach((entry) => this.#takeUp(entry));
    else if (this.unfinished) this.start();
    this.changed();
  }

  /** Continues an unfinished turn: follows its response, or sends its request again with the same key. @param {Entry} entry */
  #takeUp(entry) {
    const { turn, handle } = entry;
    const client = this.#client;
    if (handle || !isExpected(turn) || !client || turn.held) return;
    const taken = turn.responseId !== null
      ? client.follow(turn.responseId)
      : client.ask({ ...turn.request, idempotency_key: turn.key });
    entry.handle = taken;
    taken.onchange = () => this.#changed(entry);
    void taken.done.then(() => this.#ended(entry, taken));
  }

  /** Handles a change of an answer, and stores its response id once it is known. @param {Entry} entry */
  #changed(entry) {
    const { turn, handle } = entry;
    if (handle?.answer.responseId && turn.responseId === null && this.entries.includes(entry)) {
      turn.responseId = handle.answer.responseId;
      this.conversation.save(turn); // from now on, a reloaded page follows the response
    }
    this.changed();
  }

  /** Stores an answer that has ended. If the server has lost the earlier turns, asks again with all of them.
   * @param {Entry} entry @param {AnswerHandle} handle
   */
  #ended(entry, handle) {
    const { turn } = entry;
    if (entry.handle !== handle) return;
    const { answer } = handle;
    const { text, model, status, error } = answer;
    entry.handle = null;
    // Only the connection was closed. The next client follows a response that has an id.
    const closed = error?.code === "connection_closed" && !(this.#final && turn.responseId === null);
    if (!answer.ended || closed || !this.entries.includes(entry)) return;
    if (error?.code === "previous_response_not_found" && turn.request.previous_response_id && (turn.prompt || turn.files)) {
      // The server has deleted the earlier turns, so the prompt is sent again with all of them.
      this.ask(turn.prompt, { ...contentOf(turn), instead: turn, whole: true });
      return;
    }
    // Only the replies to a tool call share a key. Another tab or device has replied first, so its response is shown.
    if (error?.code === "idempotency_key_reused") {
      turn.responseId = /** @type {string} */ (error.response_id);
      turn.request.input = [];
      this.conversation.save(turn);
      return this.list();
    }
    Object.assign(turn, { text, model, status, aside: this.setting.aside(handle), note: this.setting.note(handle, this.state) });
    this.conversation.save(turn);
    this.#dispatch("answer", turn);
    this.changed();
  }

  /** Dispatches an event of the thread. @param {string} name @param {Turn} [detail] */
  #dispatch(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

/** Returns the files of a prompt and its content, to send the prompt again. @param {Turn} turn */
const contentOf = ({ files, request }) => (files ? { files, content: /** @type {any} */ (request.input)?.at(-1).content } : {});
