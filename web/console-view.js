// @ts-check
/** Shows the state of the service: numbers with their recent history, and lists. */

import { Sparkline } from "./console-chart.js";
import { History } from "./console-history.js";
import { bar, chip, List, once, setText } from "./console-list.js";
import { ago, count, counted, duration, percent, quoted, short, span } from "./console-format.js";
import { commandLine } from "./console-command.js";
import { make } from "./dom.js";

/**
 * The state of the service, which the message `holdline:state` contains. Times are Unix seconds of Redis's clock.
 * @typedef {{level: "problem" | "warning", text: string, command: string | null}} Alert
 * @typedef {{
 *   model: string, waiting: number, oldest_at: number | null, tiers: {[tier: string]: number}, running: number,
 *   workers: number, paused_until: number | null, pause_reason: string | null,
 *   attempts: number, failed_attempts: number, failure_cause: string | null,
 * }} Model
 * @typedef {{
 *   tenant: string, unfinished: number, running: number, held: boolean,
 *   tokens_used: number, tokens_limit: number | null, money_used: number, money_limit: number | null,
 * }} Tenant
 * @typedef {{
 *   id: string, host: string, pid: number, version: string, state: "ready" | "paused" | "draining", reason: string | null,
 *   started_at: number, running: number, concurrency: number, models: string[],
 * }} Worker
 * @typedef {{
 *   id: string, host: string, pid: number, version: string, state: "ready" | "draining", started_at: number, seen_at: number,
 *   sockets: number, streams: number, refused: number,
 * }} Server
 * @typedef {{code: string, count: number}} Refused
 * @typedef {{
 *   response_id: string, model: string, attempt: number, submitted_at: number, lost: boolean,
 *   worker: string | null, host: string | null, started_at: number | null, first_token_at: number | null,
 * }} Answer
 * @typedef {{
 *   read_at: number, redis_available: boolean, alerts: Alert[],
 *   counts: {waiting: number, delayed: number, running: number, lost: number, dead: number, started: number},
 *   models: Model[], tenants: Tenant[], tenant_count: number,
 *   workers: Worker[], worker_counts: {total: number, ready: number, draining: number, paused: number, slots: number},
 *   answers: Answer[], dead: string[], servers: Server[], server_count: number, refused: Refused[],
 * }} Overview
 */

/** A number with a short text and, if it changes much, its recent history. */
class Tile {
  element;
  #value = make("p", "tile-value");
  #note = make("p", "tile-note");
  /** @type {Sparkline | null} */
  #chart = null;

  /** @param {string} title @param {string} [charted] what the values of the chart are */
  constructor(title, charted) {
    this.element = make("section", "tile", make("h2", "", title), this.#value, this.#note);
    if (charted) {
      this.#chart = new Sparkline(charted);
      this.element.append(this.#chart.element);
    }
  }

  /** @param {string} value @param {string} note @param {(number | null)[]} [history] @param {"" | "warn" | "bad"} [tone] */
  show(value, note, history = [], tone = "") {
    setText(this.#value, value);
    setText(this.#note, note);
    this.element.dataset.tone = tone;
    this.#chart?.show(history);
  }
}

export class OverviewView {
  element = make("div", "overview");
  #history = new History();
  /** The overview that is shown. @type {Overview | null} */
  #overview = null;
  #filter = "";
  #waiting = new Tile("Waiting", "Waiting responses");
  #running = new Tile("Running", "Running responses");
  #started = new Tile("Started", "Attempts started per minute");
  #workersTile = new Tile("Workers");
  #deadTile = new Tile("Dead list");
  #models;
  #workers;
  #servers;
  #refused;
  #answers;
  #tenants;
  #dead;

  constructor() {
    const now = () => this.#overview?.read_at ?? 0;
    this.#models = modelList(now, () => this.#overview?.models.length === 1);
    this.#workers = workerList(now);
    this.#servers = serverList(now);
    this.#refused = refusedList();
    this.#answers = answerList(now);
    this.#tenants = tenantList();
    this.#dead = deadList();
    const tiles = [this.#waiting, this.#running, this.#started, this.#workersTile, this.#deadTile];
    const lists = [this.#models, this.#workers, this.#answers, this.#tenants, this.#refused, this.#servers, this.#dead];
    this.element.append(make("div", "tiles", ...tiles.map((tile) => tile.element)), ...lists.map((list) => list.element));
  }

  /** Shows an overview. @param {Overview} overview @param {number} now milliseconds of a clock that never goes back */
  show(overview, now) {
    this.#overview = overview;
    if (overview.redis_available) this.#history.add(now, overview.counts);
    this.#draw();
  }

  /** Shows only the rows that contain a text. @param {string} text */
  filter(text) {
    this.#filter = text;
    this.#draw();
  }

  #draw() {
    const overview = this.#overview;
    if (!overview) return;
    this.#drawTiles(overview);
    const filter = this.#filter;
    this.#models.update(overview.models, overview.models.length, filter);
    this.#workers.update(overview.workers, overview.worker_counts.total, filter);
    this.#servers.update(overview.servers, overview.server_count, filter);
    this.#refused.update(overview.refused, overview.refused.length, filter);
    this.#answers.update(overview.answers, overview.counts.running, filter);
    this.#tenants.update(overview.tenants, overview.tenant_count, filter);
    this.#dead.update(overview.dead, overview.counts.dead, filter);
  }

  /** @param {Overview} overview */
  #drawTiles({ counts, models, worker_counts: states, read_at: now }) {
    const oldest = Math.min(...models.map((model) => model.oldest_at ?? Infinity));
    const waits = counts.waiting ? `oldest waits ${span(now - oldest)}` : "nothing waits";
    const delayed = counts.delayed ? ` · ${count(counts.delayed)} retry later` : "";
    this.#waiting.show(count(counts.waiting), waits + delayed, this.#history.of("waiting"));
    this.#running.show(count(counts.running), states.slots ? `of ${counted(states.slots, "slot")}` : "no worker has a slot", this.#history.of("running"));
    const rates = this.#history.perMinute;
    const rate = rates.at(-1) ?? null;
    this.#started.show(rate === null ? "–" : count(rate < 10 ? Math.round(rate * 10) / 10 : Math.round(rate)), "attempts per minute", rates);
    const { total, paused, draining } = states;
    const others = [paused ? `${count(paused)} paused` : "", draining ? `${count(draining)} draining` : ""].filter(Boolean);
    const note = total === 0 ? "none is alive" : others.join(" · ") || "all ready";
    this.#workersTile.show(count(total), note, [], total === 0 ? "bad" : others.length ? "warn" : "");
    this.#deadTile.show(count(counts.dead), counts.dead ? "each needs a decision" : "nothing to decide", [], counts.dead ? "warn" : "");
  }
}

/** @param {() => number} now @param {() => boolean} onlyOne @returns {List<Model>} */
function modelList(now, onlyOne) {
  return new List({
    title: "Models",
    empty: "No model is known yet.",
    key: ({ model }) => model,
    text: ({ model, pause_reason: reason }) => `${model} ${reason ?? ""}`,
    columns: [
      { title: "Model", kind: "main", show: (cell, { model }) => setText(cell, model || (onlyOne() ? "any model" : "other models")) },
      { title: "State", show: (cell, model) => chip(cell, ...modelState(model, now())) },
      { title: "Waiting", kind: "number", show: (cell, { waiting }) => setText(cell, count(waiting)) },
      { title: "By tier", kind: "wide", show: (cell, { tiers }) => setText(cell, tiersIn(tiers)) },
      { title: "Oldest", kind: "number", show: (cell, { oldest_at: at }) => setText(cell, at === null ? "–" : span(now() - at)) },
      { title: "Running", kind: "number", show: (cell, { running }) => setText(cell, count(running)) },
      { title: "Failed in 5 min", kind: "wide", show: (cell, model) => setText(cell, failuresOf(model)) },
      { title: "Workers", kind: "number", show: (cell, { workers }) => setText(cell, count(workers)) },
    ],
  });
}

/** @param {Model} model @param {number} now @returns {[string, "good" | "warn" | "bad"]} */
function modelState({ workers, paused_until: until, pause_reason: reason }, now) {
  if (workers === 0) return ["no live worker", "bad"];
  if (until === null) return ["ready", "good"];
  return [`paused for ${span(until - now)}${reason === "retry_after" ? " by its provider" : ""}`, "warn"];
}

/** @param {Model} model */
const failuresOf = ({ attempts, failed_attempts: failed, failure_cause: cause }) =>
  attempts ? `${count(failed)} of ${counted(attempts, "attempt")}${failed ? `: ${cause}` : ""}` : "–";

/** @param {{[tier: string]: number}} tiers */
const tiersIn = (tiers) => Object.entries(tiers).map(([tier, waiting]) => `${count(waiting)} ${tier}`).join(" · ") || "–";

/** @param {() => number} now @returns {List<Worker>} */
function workerList(now) {
  return new List({
    title: "Workers",
    empty: "No worker is alive, so no prompt is answered.",
    key: ({ id }) => id,
    text: ({ id, host, state, reason, models, version }) => `${id} ${host} ${state} ${reason ?? ""} ${models.join(" ")} ${version}`,
    columns: [
      { title: "Worker", kind: "main", show: (cell, { id, host, pid }) => showProcess(cell, id, host, pid) },
      { title: "State", show: (cell, { state, reason }) => chip(cell, reason ? `${state}: ${reason}` : state, state === "ready" && !reason ? "good" : "warn") },
      { title: "Running", show: (cell, { running, concurrency }) => bar(cell, concurrency ? running / concurrency : 0, `${count(running)} of ${count(concurrency)}`, true) },
      { title: "Models", kind: "wide", show: (cell, { models }) => setText(cell, models.join(", ") || "any") },
      { title: "Started", kind: "number", show: (cell, { started_at: at }) => setText(cell, ago(now() - at)) },
      { title: "Version", kind: "number", show: (cell, { version }) => setText(cell, version) },
    ],
  });
}

/**
 * Shows the host of a process, and below it how to find the process.
 * @param {HTMLElement} cell @param {string} id @param {string} host @param {number} pid
 */
function showProcess(cell, id, host, pid) {
  const made = once(cell, () => make("span", "two", make("span", "two-main"), make("span", "two-note")));
  setText(/** @type {Element} */ (made.children[0]), host);
  setText(/** @type {Element} */ (made.children[1]), `${short(id, 12)} · pid ${pid}`);
}

/** @param {() => number} now @returns {List<Server>} */
function serverList(now) {
  return new List({
    title: "Servers",
    empty: "No server has written its record yet.",
    key: ({ id }) => id,
    text: ({ id, host, state, version }) => `${id} ${host} ${state} ${version}`,
    columns: [
      { title: "Server", kind: "main", show: (cell, { id, host, pid }) => showProcess(cell, id, host, pid) },
      { title: "State", show: (cell, { state }) => chip(cell, state, state === "ready" ? "good" : "warn") },
      { title: "WebSockets", kind: "number", show: (cell, { sockets }) => setText(cell, count(sockets)) },
      { title: "HTTP streams", kind: "number", show: (cell, { streams }) => setText(cell, count(streams)) },
      { title: "Refused in 5 min", kind: "number", show: (cell, { refused }) => setText(cell, count(refused)) },
      { title: "Seen", kind: "number", show: (cell, { seen_at: at }) => setText(cell, ago(now() - at)) },
      { title: "Started", kind: "number", show: (cell, { started_at: at }) => setText(cell, ago(now() - at)) },
      { title: "Version", kind: "number", show: (cell, { version }) => setText(cell, version) },
    ],
  });
}

/** @returns {List<Refused>} */
function refusedList() {
  return new List({
    title: "Refused requests in 5 minutes",
    empty: "No request was refused in the last five minutes.",
    key: ({ code }) => code,
    text: ({ code }) => code,
    columns: [
      { title: "Error code", kind: "main", show: (cell, { code }) => setText(cell, code) },
      { title: "Requests", kind: "number", show: (cell, { count: number }) => setText(cell, count(number)) },
    ],
  });
}

/** @param {() => number} now @returns {List<Answer>} */
function answerList(now) {
  return new List({
    title: "Running responses",
    empty: "No response is running.",
    key: ({ response_id: id }) => id,
    text: ({ response_id: id, model, worker, host }) => `${id} ${model} ${worker ?? ""} ${host ?? ""}`,
    columns: [
      { title: "Response", kind: "main", show: (cell, { response_id: id }) => linkTo(cell, id) },
      { title: "Model", show: (cell, { model }) => setText(cell, model) },
      {
        title: "State", show: (cell, { lost, started_at: begun, first_token_at: at }) =>
          lost ? chip(cell, "worker lost", "bad") : at !== null ? chip(cell, "writing", "good") : chip(cell, begun === null ? "started" : "no token yet", "quiet"),
      },
      { title: "Attempt", kind: "number", show: (cell, { attempt }) => setText(cell, count(attempt)) },
      { title: "Submitted", kind: "number", show: (cell, { submitted_at: at }) => setText(cell, ago(now() - at)) },
      { title: "Running for", kind: "number", show: (cell, { started_at: at }) => setText(cell, at === null ? "–" : span(now() - at)) },
      {
        title: "First token", kind: "number", show: (cell, { started_at: begun, first_token_at: at }) =>
          setText(cell, at === null || begun === null ? "–" : `after ${duration(1_000 * (at - begun))}`),
      },
      { title: "Worker", kind: "wide", show: (cell, { worker, host }) => setText(cell, worker === null ? "–" : `${host} · ${short(worker, 6)}`) },
    ],
  });
}

/** @returns {List<Tenant>} */
function tenantList() {
  return new List({
    title: "Tenants",
    empty: "No tenant has unfinished responses or has used tokens today.",
    key: ({ tenant }) => tenant,
    text: ({ tenant }) => tenant,
    columns: [
      { title: "Tenant", kind: "main", show: (cell, { tenant }) => setText(cell, tenant) },
      { title: "Unfinished", kind: "number", show: (cell, { unfinished }) => setText(cell, count(unfinished)) },
      { title: "Running", kind: "number", show: (cell, { running }) => setText(cell, count(running)) },
      { title: "State", show: (cell, { held }) => (held ? chip(cell, "at its limit", "warn") : chip(cell, "within limits", "quiet")) },
      { title: "Tokens today", show: (cell, { tokens_used: used, tokens_limit: limit }) => budget(cell, used, limit) },
      { title: "Cost today", kind: "wide", show: (cell, { money_used: used, money_limit: limit }) => budget(cell, used, limit) },
    ],
  });
}

/** @param {HTMLElement} cell @param {number} used @param {number | null} limit */
function budget(cell, used, limit) {
  const shown = count(Math.round(used * 100) / 100);
  bar(cell, limit ? used / limit : 0, limit ? `${shown} of ${count(limit)} (${percent(used / limit)})` : shown);
}

/** @returns {List<string>} */
function deadList() {
  return new List({
    title: "Dead list",
    empty: "The dead list is empty.",
    key: (id) => id,
    text: (id) => id,
    columns: [
      { title: "Response", kind: "main", show: (cell, id) => linkTo(cell, id) },
      { title: "Submit again", show: (cell, id) => void once(cell, () => commandLine(`holdline dead again ${quoted(id)}`)) },
      { title: "Remove", show: (cell, id) => void once(cell, () => commandLine(`holdline dead drop ${quoted(id)}`)) },
    ],
  });
}

/** Shows a link to the timeline of a response. @param {HTMLElement} cell @param {string} id */
function linkTo(cell, id) {
  const link = once(cell, () => make("a", "id"));
  const address = `#${id}`;
  if (link.getAttribute("href") === address) return;
  link.setAttribute("href", address);
  link.title = id;
  setText(link, short(id));
}
