// @ts-check
/** Arranges the steps of a response in rows of bars and marks, for a picture. This module performs no I/O. */

/**
 * A step in the timeline of a response; `at` is in Unix seconds.
 * @typedef {{
 *   at: number, kind: string, attempt: number | null, worker: string | null, code: string | null,
 *   wait_ms: number | null, tries: number | null,
 * }} Step
 */

/** @typedef {"waiting" | "thinking" | "writing" | "lost"} Phase */
/** @typedef {{from: number, to: number, phase: Phase}} Bar `from` and `to` are shares of the whole time */
/** @typedef {{at: number, kind: string}} Mark `at` is a share of the whole time */
/** @typedef {{title: string, note: string, bars: Bar[], marks: Mark[]}} Row */
/** @typedef {{seconds: number, rows: Row[]}} Picture */

/** The steps that begin a wait in the queue, and those that begin an attempt. */
const WAITS = new Set(["submitted", "delayed", "given_back", "worker_lost"]);
const STARTS = new Set(["claimed", "called_again"]);
/** The steps that end an attempt without its answer. */
const LOSSES = new Set(["delayed", "given_back", "worker_lost", "ending", "claimed", "called_again"]);
/** The steps after the end of the response. */
const DELIVERIES = new Set(["seen", "webhook_waiting", "webhook_ended"]);

/**
 * Returns the picture of a response. It ends with the last step, or now if the response has not ended.
 * @param {Step[]} steps in the order of their times
 * @param {number} now Unix seconds
 * @returns {Picture}
 */
export function pictureOf(steps, now) {
  const [first] = steps;
  if (!first) return { seconds: 0, rows: [] };
  const ended = steps.some(({ kind }) => kind === "ended");
  const begin = first.at;
  const end = Math.max(ended ? (steps.at(-1)?.at ?? begin) : now, begin + 0.001);
  const share = (/** @type {number} */ at) => (at - begin) / (end - begin);
  const queue = queueRow(steps, end, share);
  const rows = [queue, ...attemptRows(steps, end, share)];
  const deliveries = steps.filter(({ kind }) => DELIVERIES.has(kind));
  if (deliveries.length > 0) rows.push({ title: "Delivery", note: "", bars: [], marks: deliveries.map(({ at, kind }) => ({ at: share(at), kind })) });
  return { seconds: end - begin, rows };
}

/** @param {Step[]} steps @param {number} end @param {(at: number) => number} share @returns {Row} */
function queueRow(steps, end, share) {
  /** @type {Bar[]} */
  const bars = [];
  /** @type {number | null} */
  let since = null;
  for (const { kind, at } of steps) {
    if (WAITS.has(kind)) since ??= at;
    else if (kind === "claimed" && since !== null) {
      bars.push({ from: share(since), to: share(at), phase: "waiting" });
      since = null;
    }
  }
  if (since !== null && !steps.some(({ kind }) => kind === "ended")) bars.push({ from: share(since), to: share(end), phase: "waiting" });
  return { title: "Queue", note: "", bars, marks: [{ at: 0, kind: "submitted" }] };
}

/** @param {Step[]} steps @param {number} end @param {(at: number) => number} share @returns {Row[]} */
function attemptRows(steps, end, share) {
  /** @type {Row[]} */
  const rows = [];
  for (const [index, step] of steps.entries()) {
    if (!STARTS.has(step.kind)) continue;
    const rest = steps.slice(index + 1).filter(({ kind }) => !DELIVERIES.has(kind));
    const last = rest.findIndex(({ kind }) => LOSSES.has(kind) || kind === "ended");
    const over = rest[last];
    const inside = last === -1 ? rest : rest.slice(0, last);
    const token = inside.find(({ kind }) => kind === "first_token");
    const stop = over?.at ?? end;
    const failed = over !== undefined && LOSSES.has(over.kind);
    const bars = [{ from: share(step.at), to: share(token?.at ?? stop), phase: /** @type {Phase} */ (failed && !token ? "lost" : "thinking") }];
    if (token) bars.push({ from: share(token.at), to: share(stop), phase: failed ? "lost" : "writing" });
    const marks = [...inside, ...(over && !STARTS.has(over.kind) ? [over] : [])].map(({ at, kind, code }) => ({ at: share(at), kind: kind === "ended" ? `ended ${code ?? ""}`.trim() : kind }));
    rows.push({ title: step.attempt === null ? "Attempt" : `Attempt ${step.attempt}`, note: step.worker ?? "", bars, marks });
  }
  return rows;
}

/** Returns round times for the axis below a picture, in seconds from its beginning. @param {number} seconds @returns {number[]} */
export function ticksOf(seconds) {
  const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21_600, 43_200, 86_400];
  const step = steps.find((one) => seconds / one <= 5) ?? 86_400 * Math.ceil(seconds / 86_400 / 5);
  return Array.from({ length: Math.floor(seconds / step) + 1 }, (_, index) => index * step);
}
