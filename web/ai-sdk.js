// @ts-check
/**
 * A transport for `useChat` of the AI SDK, in the npm package `@holdline/client`; see `docs/frontends.md`.
 *
 * The transport reads the UI message stream of the route `/v1/ai-sdk`. If the connection is lost, the transport continues
 * the stream after the last event that it received, so `useChat` sees one stream without a gap or a repetition. It sends
 * each request with an idempotency key, so a repeated request never causes a second model call.
 */

import { delay } from "./backoff.js";
import { randomId } from "./protocol.js";

/** The time without a connection after which the stream fails. `useChat` can resume it later. */
export const GIVE_UP_MS = 120_000;
/** The longest silence of a connection. A server sends a heartbeat every 25 s unless it is configured otherwise. */
export const SILENCE_MS = 60_000;
/** The statuses with which a server or a proxy refuses a request that it may accept later. */
const TEMPORARY = new Set([502, 503, 504]);

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

/** A refusal of the server. */
export class RequestError extends Error {
  /** @param {number} status @param {string} code @param {string} message */
  constructor(status, code, message) {
    super(message);
    this.name = "RequestError";
    this.status = status;
    this.code = code;
  }
}

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
    const request = { ...this.#options.body, ...body, id: chatId, messages, trigger, messageId };
    const init = { method: "POST", body: JSON.stringify(request) };
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
    const resume = (/** @type {number} */ after) =>
      this.#request(`ai-sdk/${responseId}/stream?starting_after=${after}`, {}, options);
    const chunks = chunksOf(first, resume, options.abortSignal);
    return new ReadableStream({
      async pull(controller) {
        const { done, value } = await chunks.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      async cancel() {
        await chunks.return(undefined);
      },
    });
  }

  /**
   * Sends a request, and repeats it until a server has answered. Throws a `TypeError`, like `fetch`, if no server answers
   * in time, and a `RequestError` if the server refuses the request.
   * @param {string} path @param {RequestInit} init @param {RequestOptions} options @param {Record<string, string>} [own]
   */
  async #request(path, init, options, own = {}) {
    const until = Date.now() + GIVE_UP_MS;
    for (let tries = 1; ; tries++) {
      try {
        const response = await this.#fetch(path, init, options, own);
        if (response.ok) return response;
        if (!TEMPORARY.has(response.status) || Date.now() > until) throw await refusal(response);
      } catch (error) {
        if (!(error instanceof TypeError) || Date.now() > until) throw error;
      }
      await pause(delay(tries, Math.random()), options.abortSignal);
    }
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

/**
 * Yields the chunks of a stream, which continues on further connections after each loss of one.
 * @param {Response} first @param {(after: number) => Promise<Response>} resume @param {AbortSignal | undefined} signal
 * @returns {AsyncGenerator<Chunk, void>}
 */
async function* chunksOf(first, resume, signal) {
  let response = first;
  let after = -1;
  for (let tries = 0; ; tries++) {
    try {
      /** The chunks of an event whose last chunk has not arrived. @type {Chunk[]} */
      let waiting = [];
      for await (const { id, data } of eventsOf(response)) {
        if (data === "[DONE]") return;
        const chunk = JSON.parse(data);
        waiting.push(chunk);
        if (chunk.type !== "error" && id === null) continue;
        if (id !== null) after = id;
        tries = 0;
        yield* waiting;
        waiting = [];
        if (chunk.type === "error") return;
      }
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // a `TypeError` means that the connection is lost
    }
    await pause(delay(tries, Math.random()), signal);
    response = await resume(after);
  }
}

/**
 * Yields the server-sent events of a response; `id` is the sequence number of the log's event, or null.
 * @param {Response} response
 * @returns {AsyncGenerator<{id: number | null, data: string}, void>}
 */
async function* eventsOf(response) {
  const body = response.body;
  if (!body) return;
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  try {
    for (;;) {
      const { done, value } = await inTime(reader.read());
      if (done) return;
      text += value;
      const events = text.split("\n\n");
      text = events.pop() ?? "";
      for (const event of events) {
        const fields = new Map(event.split("\n").map((line) => {
          const colon = line.indexOf(": ");
          return [line.slice(0, colon), line.slice(colon + 2)];
        }));
        const id = fields.get("id");
        const data = fields.get("data");
        if (data !== undefined) yield { id: id === undefined ? null : Number(id), data };
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Rejects if the connection is silent for too long. @template T @param {Promise<T>} reading @returns {Promise<T>} */
function inTime(reading) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new TypeError("network: the connection is silent")), SILENCE_MS);
    reading.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

/** @param {Response} response */
async function refusal(response) {
  /** @type {any} */
  const body = await response.json().catch(() => ({}));
  const { code = "http_error", message = `The server answered with status ${response.status}.` } = body?.error ?? {};
  return new RequestError(response.status, code, message);
}

/** @param {number} ms @param {AbortSignal | undefined} signal @returns {Promise<void>} */
function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => reject(signal?.reason);
    if (signal?.aborted) return stop();
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, ms);
    signal?.addEventListener("abort", () => (clearTimeout(timer), stop()), { once: true });
  });
}
