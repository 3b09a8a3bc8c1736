// @ts-check
/** Shows the timeline of one response: a picture, the steps, and on request the contents. */

import { commandLine } from "./console-command.js";
import { pictureOf, ticksOf } from "./console-picture.js";
import { chip, setText } from "./console-list.js";
import { clock, count, duration, moment, quoted, span } from "./console-format.js";
import { button, make } from "./dom.js";
import { copy, COPIED_MS } from "./signs.js";
import { fill } from "./words.js";

/** @typedef {import("./console-picture.js").Step} Step */
/** @typedef {import("./console-picture.js").Row} Row */

/**
 * The message `holdline:timeline`. Without a status, the server has no such response.
 * @typedef {{
 *   response_id: string, now: number, status: string | null, model: string | null, tenant: string | null, tier: string | null,
 *   attempts: number, failures: number, complete: boolean, dead: boolean, steps: Step[],
 * }} Timeline
 */

const LOADING_MS = 10_000;
const CONTENTS_MS = 15_000;

/** The text of each kind of step, with placeholders. */
const STEPS = /** @type {{[kind: string]: string}} */ ({
  submitted: "Submitted",
  queued: "Queued in the {code}",
  claimed: "Attempt {attempt} started by worker {worker}",
  called_again: "Attempt {attempt}: the same worker called the model again",
  restarted: "The answer restarted: {code}",
  continued: "The answer continued: {code}",
  first_token: "First token",
  http_error: "The model's endpoint replied to attempt {attempt} with HTTP status {code}",
  delayed: "Attempt {attempt} failed: {code}. The next one begins in {wait}",
  given_back: "Returned to the queue: {code}",
  worker_lost: "The worker was lost, so the response returned to the queue",
  cancel_asked: "A client cancelled the response",
  ending: "Another worker ends the response: {code}",
  ended: "Ended: {code}",
  seen: "A client has received the whole response",
  webhook_waiting: "Webhook due, after {tries} tries",
  webhook_ended: "Webhook: {code}",
});

/** @type {{[status: string]: "good" | "warn" | "bad" | "quiet"}} */
const TONES = { queued: "quiet", running: "good", completed: "good", incomplete: "warn", cancelled: "quiet", failed: "bad" };

export class TimelineView {
  element = make("article", "timeline panel");
  heading;
  #chip = make("span", "timeline-status");
  #facts = make("dl", "facts-list");
  #message = make("p", "timeline-message");
  #picture = make("div", "picture");
  #steps = make("ol", "steps");
  #missing = make("p", "hint", "Some steps are missing: the record of a response has a limited size.");
  #commands = make("div", "timeline-commands");
  #contents;
  #view;
  #mark = "";
  #known = false;

  /** @param {string} id @param {() => string | null} credential */
  constructor(id, credential) {
    this.id = id;
    this.credential = credential;
    const back = make("a", "back", "All responses");
    back.href = "#";
    this.heading = make("h2", "timeline-id", id);
    this.heading.tabIndex = -1;
    const share = button("button", "Copy link to this timeline", async () => {
      await copy(location.href);
      share.textContent = "Link copied";
      setTimeout(() => (share.textContent = "Copy link"), COPIED_MS);
    }, "Copy link");
    const head = make("div", "timeline-head", this.heading, this.#chip, share);
    this.#message.setAttribute("role", "status");
    this.#picture.setAttribute("role", "img");
    this.#view = button("button", "", () => void this.#showContents(), "Show the prompt and the answer");
    this.#view.removeAttribute("aria-label");
    this.#contents = make("section", "contents", make("p", "hint", "The audit log records each view, with your key and this id."), this.#view);
    this.element.append(back, head, this.#message, this.#facts, this.#picture, this.#steps, this.#missing, this.#commands, this.#contents);
    this.#say("Loading…");
    this.#contents.hidden = true;
    this.#missing.hidden = true;
    setTimeout(() => {
      if (!this.#known) this.#say("Still loading. The server has not sent this response yet.");
    }, LOADING_MS);
  }

  /** Enables the button for the contents if the key has the scope `contents`. @param {boolean} allowed */
  allow(allowed) {
    this.#view.disabled = !allowed;
    if (!allowed) setText(/** @type {Element} */ (this.#contents.firstElementChild), "Your key lacks the scope contents, so the prompt and the answer stay hidden.");
  }

  /** @param {Timeline} timeline */
  show(timeline) {
    this.#known = true;
    const found = timeline.status !== null;
    this.element.dataset.found = String(found);
    this.#contents.hidden = !found;
    this.#picture.hidden = !found;
    if (timeline.status === null) {
      this.#chip.replaceChildren();
      return this.#say("This response is unknown. It may have expired: Redis keeps finished responses only for the retention period (HOLDLINE_RETENTION_SECONDS). It may also have been deleted, or the id may be misspelt.");
    }
    this.#say("");
    chip(this.#chip, timeline.status, TONES[timeline.status] ?? "quiet");
    // Only the end of a running response moves, so a finished one is drawn once.
    const mark = JSON.stringify({ ...timeline, now: 0 });
    const running = timeline.status === "queued" || timeline.status === "running";
    if (mark !== this.#mark) this.#drawSteps(timeline);
    if (mark !== this.#mark || running) this.#drawPicture(timeline);
    this.#mark = mark;
  }

  /** @param {string} text */
  #say(text) {
    setText(this.#message, text);
    this.#message.hidden = text === "";
  }

  /** @param {Timeline} timeline */
  #drawSteps({ steps, model, tenant, tier, attempts, dead, complete }) {
    const begin = steps[0]?.at ?? 0;
    const end = steps.find(({ kind }) => kind === "ended");
    const token = steps.find(({ kind }) => kind === "first_token");
    /** @type {[string, string | null][]} */
    const facts = [
      ["Submitted", steps.length ? moment(begin) : null],
      ["Model", model],
      ["Tier", tier],
      ["Tenant", tenant],
      ["Attempts", attempts ? count(attempts) : null],
      ["First token", token ? `after ${duration((token.at - begin) * 1_000)}` : null],
      ["Ended", end ? `after ${duration((end.at - begin) * 1_000)}` : null],
    ];
    this.#facts.replaceChildren(...facts.filter(([, value]) => value !== null).map(([name, value]) => make("div", "", make("dt", "", name), make("dd", "", value ?? ""))));
    this.#steps.replaceChildren(...steps.map((step) => {
      const time = make("time", "step-time", clock(step.at));
      time.dateTime = new Date(step.at * 1_000).toISOString();
      const item = make("li", "step", time, make("span", "step-after", step.at > begin ? `+${duration((step.at - begin) * 1_000)}` : ""), make("span", "step-text", wordsOf(step)));
      item.dataset.kind = step.kind;
      return item;
    }));
    this.#missing.hidden = complete;
    const commands = dead ? [`holdline dead again ${quoted(this.id)}`, `holdline dead drop ${quoted(this.id)}`] : [];
    commands.push(`holdline status ${quoted(this.id)}`);
    this.#commands.replaceChildren(...commands.map(commandLine));
  }

  /** @param {Timeline} timeline */
  #drawPicture({ steps, now }) {
    const { seconds, rows } = pictureOf(steps, now);
    this.#picture.setAttribute("aria-label", `Timeline of ${span(seconds)} in ${rows.length} rows; the list below has the same steps`);
    const ticks = ticksOf(seconds).map((at) => {
      const tick = make("span", "tick", at === 0 ? "0" : duration(at * 1_000));
      tick.style.setProperty("--at", String(at / seconds));
      return tick;
    });
    this.#picture.replaceChildren(...rows.map(drawRow), make("div", "picture-row axis", make("span", "picture-title"), make("div", "track", ...ticks)));
  }

  async #showContents() {
    this.#view.disabled = true;
    const token = this.credential();
    /** @type {HeadersInit} */
    const headers = token === null ? {} : { Authorization: `Bearer ${token}` };
    const hint = /** @type {Element} */ (this.#contents.firstElementChild);
    try {
      const answer = await fetch(`v1/console/responses/${this.id}/contents`, { headers, signal: AbortSignal.timeout(CONTENTS_MS) });
      const body = await answer.json();
      if (!answer.ok) throw new Error(body.error.message);
      this.#view.remove();
      this.#contents.append(make("h3", "", "Prompt"), textBlock("Prompt", body.input), make("h3", "", "Answer"), textBlock("Answer", body.response.output));
    } catch (error) {
      setText(hint, `The contents cannot be shown: ${error instanceof Error ? error.message : String(error)}`);
      this.#view.disabled = false;
    }
  }
}

/** @param {Row} row */
function drawRow({ title, note, bars, marks }) {
  const track = make("div", "track");
  for (const { from, to, phase } of bars) {
    const made = make("span", "stretch");
    made.dataset.phase = phase;
    made.style.setProperty("--from", String(from));
    made.style.setProperty("--to", String(to));
    track.append(made);
  }
  for (const { at, kind } of marks) {
    const made = make("span", "mark");
    made.dataset.kind = kind;
    made.title = kind.replaceAll("_", " ");
    made.style.setProperty("--at", String(at));
    track.append(made);
  }
  return make("div", "picture-row", make("span", "picture-title", title, make("span", "picture-note", note)), track);
}

/** @param {Step} step */
function wordsOf({ kind, attempt, worker, code, wait_ms: wait, tries }) {
  const values = { attempt, worker, code: code?.replaceAll("_", " ") ?? "no reason", wait: duration(wait ?? 0), tries };
  return fill(STEPS[kind] ?? kind.replaceAll("_", " "), /** @type {any} */ (values));
}

/** Makes a block with the texts of items; other parts are shown as JSON. @param {string} label @param {any[]} items */
function textBlock(label, items) {
  const parts = items.flatMap((item) => (typeof item.content === "string" ? [item.content] : (item.content ?? [item]).map((/** @type {any} */ part) => part.text ?? JSON.stringify(part, null, 2))));
  const made = make("pre", "contents-text", parts.join("\n\n") || "(empty)");
  made.tabIndex = 0;
  made.setAttribute("role", "group");
  made.setAttribute("aria-label", label);
  return made;
}
