// @ts-check
/**
 * A transport for `useChat` of the AI SDK, in the npm package `@holdline/client`; see `docs/frontends.md`.
 *
 * The transport reads the UI message stream of the route `/v1/ai-sdk`. If the connection is lost, the transport continues
 * the stream after the last event that it received, so `useChat` sees one stream without a gap or a repetition. It sends
 * each request with an idempotency key, so a repeated request never causes a second model call.
 */

import { accepted, eventsOf, request, RequestError, streamOf } from "./event-stream.js";
import { randomId } from "./protocol.js";

/** A part of a UI message stream, which is defined by the package `ai`. @typedef {any} Chunk */
/** @typedef {Record<string, string> | Headers} HeaderValues */
/** @typedef {{headers?: HeaderValues | undefined, body?: object | undefined, abortSignal?: AbortSignal | undefined}} RequestOptions */

/**
 * The options of a transport. `server` is the root URL of the server; the page's own host by default. `tokenProvider`
 * returns a token or an API key for the next request. `body` contains parameters of every response, such as `model`.
 * @typedef {{
 *   server?: string, tokenProvider?: () => string | Promise<string>, headers?: HeaderValues, body?: object,
 *   fetch?: typeof globalThis.fetch,
 * }} TransportOptions
 */

/** A `ChatTransport` of the package `ai`, version 7 or newer. */
export class HoldlineChatTransport {
  /** Tells `useChat` that `reconnectToStream` returns the answer from its beginning. */
  resumeStreamIsReplay = true;
  /** The last response of each chat. @type {Map<string, string>} */
  #responses = new Map();
  #options;

  /** @param {TransportOptions} [options] */
  constructor(options = {}) {
    this.#options = options;
  }

  /**
   * Sends a chat, and returns the stream of the answer.
   * @param {RequestOptions & {chatId: string, messages: object[], trigger: string, messageId?: string | undefined}} options
   * @returns {Promise<ReadableStream<Chunk>>}
   */
  async sendMessages({ chatId, messages, trigger, messageId, headers, body, abortSignal }) {
    const chat = { ...this.#options.body, ...body, id: chatId, messages, trigger, messageId };
    const init = { method: "POST", body: JSON.stringify(chat) };
    const own = { "Content-Type": "application/json", "Idempotency-Key": randomId() };
    const stream = await this.#open(chatId, "", init, { headers, abortSignal }, own);
    if (!stream) throw new RequestError(204, "no_answer", "The server sent no answer.");
    return stream;
  }

  /**
   * Returns the stream of the last answer of a chat from its beginning, or null if the chat has no answer.
   * @param {RequestOptions & {chatId: string}} options
   * @returns {Promise<ReadableStream<Chunk> | null>}
   */
  async reconnectToStream({ chatId, headers, abortSignal }) {
    return this.#open(chatId, `/${encodeURIComponent(chatId)}/stream`, {}, { headers, abortSignal });
  }

  /**
   * Cancels the last answer of a chat that this transport has streamed. The method `stop` of `useChat` only stops reading:
   * it is also called when a component is unmounted.
   * @param {string} chatId
   */
  async cancel(chatId) {
    const id = this.#responses.get(chatId);
    if (id) await this.#fetch(`responses/${id}/cancel`, { method: "POST" }, {});
  }

  /**
   * Opens a stream, and returns null if there is none.
   * @param {string} chatId @param {string} path @param {RequestInit} init @param {RequestOptions} options
   * @param {Record<string, string>} [own]
   */
  async #open(chatId, path, init, options, own) {
    const first = await this.#request(`ai-sdk${path}`, init, options, own);
    if (first.status === 204) return null;
    const responseId = first.headers.get("X-Response-Id") ?? "";
    this.#responses.set(chatId, responseId);
    const resume = (/** @type {string} */ after) =>
      this.#request(`ai-sdk/${responseId}/stream?starting_after=${after}`, {}, options);
    return streamOf(chunksOf(eventsOf(first, resume, options.abortSignal)));
  }

  /**
   * Sends a request until a server has answered. Rejects with a `RequestError` if the server refuses it.
   * @param {string} path @param {RequestInit} init @param {RequestOptions} options @param {Record<string, string>} [own]
   */
  async #request(path, init, options, own) {
    return accepted(await request(() => this.#fetch(path, init, options, own), options.abortSignal));
  }

  /** @param {string} path @param {RequestInit} init @param {RequestOptions} options @param {Record<string, string>} [own] */
  async #fetch(path, init, { headers, abortSignal }, own = {}) {
    const token = await this.#options.tokenProvider?.();
    const all = new Headers(this.#options.headers);
    new Headers(headers).forEach((value, name) => all.set(name, value));
    for (const [name, value] of Object.entries(own)) all.set(name, value);
    if (token) all.set("Authorization", `Bearer ${token}`);
    const root = new URL(this.#options.server ?? "/", globalThis.location?.href);
    const fetch = this.#options.fetch ?? globalThis.fetch;
    return fetch(new URL(`v1/${path}`, root), { ...init, headers: all, signal: abortSignal ?? null });
  }
}

/** @param {AsyncGenerator<string, void>} events @returns {AsyncGenerator<Chunk, void>} */
async function* chunksOf(events) {
  for await (const event of events) {
    const data = /^data: (.*)$/m.exec(event)?.[1];
    if (data && data !== "[DONE]") yield JSON.parse(data);
  }
}
