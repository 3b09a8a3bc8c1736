// @ts-check
/**
 * Collects the replies to the calls of an answer, and sends them together: the visitor's decisions about requests for
 * approval, and the results of functions, for which the page is asked with the event `tool`.
 *
 * Functions may have effects, so the page is asked once, and only in the tab in which the prompt was sent. After a reload,
 * the visitor decides whether it is asked again.
 */

import { load } from "./place.js";
import { APPROVAL, FUNCTION, LONGEST_INPUT, MAX_CALLS, repliesIn } from "./tool-calls.js";

/** @typedef {import("./conversation.js").Turn} Turn */
/** @typedef {import("./protocol.js").Json} Json */
/** @typedef {import("./tool-calls.js").ToolCall} ToolCall */

/**
 * A tool in the form of the Responses API. A function of the page can have `run`, which gets the arguments as an object and the
 * details of the call, and returns the result or a promise of it.
 * @typedef {{type: string, name?: string, run?: (given: any, call: object) => unknown}} PageTool
 */

/** The maximum number of answers in a row after which the page is asked without the visitor. */
const MAX_ROUNDS = 16;
/** The type of a tool that the page runs. */
const FUNCTION_TOOL = "function";

export class Replier {
  /** The turns whose prompt was sent here. @type {WeakSet<Turn>} */ #own = new WeakSet();
  /** The calls about which the page was asked. @type {WeakSet<Turn>} */ #asked = new WeakSet();
  /** The turns whose replies are being fetched, or were fetched. @type {WeakSet<Turn>} */ #fetching = new WeakSet();
  /** The replies so far, by the id of the call. @type {WeakMap<Turn, Map<string, Json>>} */ #given = new WeakMap();

  /** Listens to a thread. @param {import("./thread.js").Thread} thread @param {HTMLElement & {tools: PageTool[] | undefined}} host receives the events */
  constructor(thread, host) {
    this.thread = thread;
    this.host = host;
    thread.addEventListener("message", (event) => this.#own.add(/** @type {CustomEvent<Turn>} */ (event).detail));
    thread.addEventListener("answer", (event) => {
      const turn = /** @type {CustomEvent<Turn>} */ (event).detail;
      if (this.#own.has(turn) && this.#rounds < MAX_ROUNDS) queueMicrotask(() => this.#ask(turn));
    });
  }

  /** Returns what the view of a turn's calls needs. @param {Turn} turn @returns {import("./tool-view.js").Replying} */
  of(turn) {
    if (turn.responseId !== null && turn.request.input?.length === 0) void this.#recall(turn);
    // A reply that was sent, perhaps on another device, takes precedence over one that was given here.
    const replies = new Map([...this.#given.get(turn) ?? [], ...repliesIn(this.thread.entries)]);
    const owed = this.#owed(turn);
    const waits = owed.some(({ type }) => type === FUNCTION) && !this.#asked.has(turn) && !this.#own.has(turn);
    return {
      replies,
      decide: owed.length === 0 ? null : (call, approve) => {
        this.#give(turn, call, { type: "mcp_approval_response", approval_request_id: call.callId, approve });
      },
      run: waits ? () => this.#ask(turn) : null,
    };
  }

  /** The number of answers since the last prompt of the visitor. */
  get #rounds() {
    const { entries } = this.thread;
    return entries.length - 1 - entries.findLastIndex(({ turn }) => turn.prompt !== "" || turn.files !== undefined);
  }

  /** Returns the calls of the last turn that have no reply. @param {Turn} turn @returns {ToolCall[]} */
  #owed(turn) {
    const { active, entries } = this.thread;
    if (active || entries.at(-1)?.turn !== turn || turn.status !== "completed") return [];
    return (turn.aside?.tools ?? []).filter(({ callId, state }) => callId !== null && state === "completed");
  }

  /** Asks the page for the results of the functions that an answer calls. @param {Turn} turn */
  #ask(turn) {
    if (this.#asked.has(turn)) return;
    this.#asked.add(turn);
    for (const call of this.#owed(turn).filter(({ type, input }) => type === FUNCTION && input.length < LONGEST_INPUT)) {
      let isAnswered = false;
      const respond = async (/** @type {unknown} */ result) => {
        if (isAnswered) return;
        isAnswered = true;
        const output = await Promise.resolve(result).then(resultText).catch((error) => `Error: ${error?.message ?? error}`);
        this.#give(turn, call, { type: "function_call_output", call_id: call.callId, output });
      };
      const detail = { name: call.name, arguments: call.input, callId: call.callId, responseId: turn.responseId, respond };
      const run = this.host.tools?.find(({ type, name }) => type === FUNCTION_TOOL && name === call.name)?.run;
      if (run) void respond(Promise.resolve().then(() => run(JSON.parse(call.input || "{}"), detail)));
      else this.host.dispatchEvent(new CustomEvent("tool", { detail }));
    }
    this.thread.changed();
  }

  /** Fetches the replies that another tab or device has given in a turn. @param {Turn} turn */
  async #recall(turn) {
    if (this.#fetching.has(turn)) return;
    this.#fetching.add(turn);
    try {
      const { callResponse } = await load("call.js");
      const reply = await callResponse(this.thread, `${turn.responseId}/input_items?order=asc&limit=${MAX_CALLS}`);
      if (!reply?.ok) throw new Error("the replies cannot be fetched now");
      const { data } = await reply.json();
      // The server adds `id` and `status` when it stores an item, so the request had neither.
      turn.request.input = data.map((/** @type {Json} */ { id: _, status: __, ...item }) => item);
      this.thread.conversation.save(turn);
      this.thread.changed();
    } catch {
      this.thread.addEventListener("state", () => this.#fetching.delete(turn), { once: true });
    }
  }

  /** Keeps a reply, and sends all replies once every call has one. @param {Turn} turn @param {ToolCall} call @param {Json} item */
  #give(turn, { callId }, item) {
    this.thread.sync(); // another tab may have replied
    const owed = this.#owed(turn);
    if (!owed.some((one) => one.callId === callId)) return; // the visitor went on without the reply
    const given = this.#given.get(turn) ?? new Map();
    this.#given.set(turn, given);
    given.set(callId, item);
    if (owed.every((one) => given.has(one.callId))) {
      const request = { ...this.thread.setting.more(), input: [...given.values()], previous_response_id: turn.responseId };
      // If another tab or device replies at the same time, the server accepts only one of the replies.
      this.thread.ask("", { like: /** @type {Turn} */ ({ request }), key: `${turn.responseId}-reply` });
      this.#given.delete(turn); // from now on, the request counts that the server accepts, which may be that of another tab
    }
    this.thread.changed();
  }
}

/** Returns a result as text: a text unchanged, another value as JSON. @param {unknown} value @returns {string} */
const resultText = (value) => (typeof value === "string" ? value : JSON.stringify(value) ?? "");
