// @ts-check
/**
 * Reads event streams of the server, and continues them after a lost connection. The transports for other front ends in the
 * npm package use this module; see `docs/frontends.md`.
 */

import { delay } from "./backoff.js";

/** The time without a connection after which a stream fails. */
export const GIVE_UP_MS = 120_000;
/** The longest silence of a connection. A server sends a heartbeat every 25 s unless it is configured otherwise. */
export const SILENCE_MS = 60_000;
/** The statuses with which a server or a proxy refuses a request that it may accept later. */
const TEMPORARY = new Set([502, 503, 504]);
/** The status with which a server refuses a further stream. */
const TOO_MANY = 429;
/** The events that end a complete stream. */
const ENDS = new Set(["data: [DONE]", ": done"]);

/** An error that is not in the log of a response, in the protocol of the AI SDK or of AG-UI. */
const ERROR = /^data: \{"type":"(error|RUN_ERROR)"/;

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

/**
 * Sends a request, and repeats it until a server has answered. Rejects like `fetch` if no server answers in time.
 * @param {() => Promise<Response>} send @param {AbortSignal | null | undefined} signal
 */
export async function request(send, signal) {
  const until = Date.now() + GIVE_UP_MS;
  for (let tries = 1; ; tries++) {
    try {
      const response = await send();
      if (!TEMPORARY.has(response.status) || Date.now() > until) return response;
    } catch (error) {
      if (!(error instanceof TypeError) || Date.now() > until) throw error;
    }
    await pause(delay(tries, Math.random()), signal);
  }
}

/** Throws a `RequestError` unless the server has accepted the request. @param {Response} response */
export async function accepted(response) {
  if (response.ok) return response;
  /** @type {any} */
  const body = await response.json().catch(() => ({}));
  const { code = "http_error", message = `The server answered with status ${response.status}.` } = body?.error ?? {};
  throw new RequestError(response.status, code, message);
}

/**
 * Yields the server-sent events of a stream, which continues on further connections after each loss of one. Several events
 * belong to one event of the log; they are yielded together, when the last of them, which has a cursor as its `id`, has arrived.
 * @param {Response} first @param {(after: string) => Promise<Response>} resume @param {AbortSignal | null | undefined} signal
 * @returns {AsyncGenerator<string, void>}
 */
export async function* eventsOf(first, resume, signal) {
  let response = first;
  let after = "-1";
  let heard = Date.now(); // the time of the last event that was no error
  for (let tries = 0; ; tries++) {
    /** @type {string[]} */
    let waiting = [];
    let lost = new TypeError("network: the connection ends before the answer");
    try {
      for await (const event of blocksOf(response)) {
        if (!ERROR.test(event)) heard = Date.now();
        if (ENDS.has(event)) {
          yield event;
          return;
        }
        waiting.push(event);
        const id = /^id: (\S+)$/m.exec(event);
        if (!id?.[1]) continue;
        after = id[1];
        tries = 0;
        yield* waiting;
        waiting = [];
      }
      // A stream with an error, which has no id, ends regularly after it.
      if (waiting.some((event) => ERROR.test(event))) {
        yield* waiting;
        return;
      }
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // a `TypeError` means that the connection is lost
      lost = error;
    }
    for (let failure = lost; ; tries++) {
      if (Date.now() - heard > GIVE_UP_MS) throw failure;
      await pause(delay(tries, Math.random()), signal);
      try {
        response = await resume(after);
        break;
      } catch (error) {
        // A server that has reached its limit of streams accepts the request later.
        if (!(error instanceof RequestError) || error.status !== TOO_MANY) throw error;
        failure = error;
      }
    }
  }
}

/** Yields the texts between the blank lines of a response. @param {Response} response @returns {AsyncGenerator<string, void>} */
async function* blocksOf(response) {
  if (!response.body) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  try {
    for (;;) {
      const { done, value } = await inTime(reader.read());
      if (done) return;
      const blocks = (text + value).split("\n\n");
      text = blocks.pop() ?? "";
      yield* blocks;
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

/** @param {number} ms @param {AbortSignal | null | undefined} signal @returns {Promise<void>} */
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

/**
 * Returns a stream of the values that a generator yields.
 * @template T @param {AsyncGenerator<T, void>} values @returns {ReadableStream<T>}
 */
export function streamOf(values) {
  return new ReadableStream({
    async pull(controller) {
      const { done, value } = await values.next();
      if (done) controller.close();
      else controller.enqueue(value);
    },
    async cancel() {
      await values.return(undefined);
    },
  });
}
