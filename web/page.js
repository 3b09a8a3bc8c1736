// @ts-check
/** The page at `/`: a conversation that survives a reload, a lost line and a restarted server. */

import { attachPage, HoldlineClient } from "./client.js";
import { Conversation } from "./conversation.js";
import { isEnd } from "./answer.js";
import { TurnView } from "./turn-view.js";
import { bannerWords, SIMULATION, STATE_WORDS, statusWords } from "./words.js";

/** @typedef {import("./conversation.js").Turn} Turn */
/** @typedef {import("./answer-handle.js").AnswerHandle} AnswerHandle */
/** @typedef {{turn: Turn, view: TurnView, handle: AnswerHandle | null}} Shown */

/** Milliseconds without a connection before the page speaks of it: most losses are over by then. */
const DOUBT_MS = 1_500;
/** Who has scrolled up further than this reads, and is not carried along. */
const FOLLOW_END_PX = 96;
const TALLEST_PROMPT_PX = 220;

/** @template {HTMLElement} T @param {string} id @param {new () => T} kind @returns {T} */
function byId(id, kind) {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`the page has no #${id}`);
  return found;
}

const page = {
  log: byId("log", HTMLElement),
  turns: byId("turns", HTMLElement),
  start: byId("start", HTMLElement),
  form: byId("ask", HTMLFormElement),
  prompt: byId("prompt", HTMLTextAreaElement),
  send: byId("send", HTMLButtonElement),
  stop: byId("stop", HTMLButtonElement),
  fresh: byId("new", HTMLButtonElement),
  state: byId("state", HTMLElement),
  stateWord: byId("state-word", HTMLElement),
  banner: byId("banner", HTMLElement),
  simulation: byId("simulation", HTMLElement),
  latest: byId("latest", HTMLButtonElement),
  said: byId("said", HTMLElement),
};

const conversation = new Conversation(window.sessionStorage);
const client = new HoldlineClient("/v1/responses");
attachPage(client, window);

/** @type {Shown[]} */
let shown = [];
let drawing = false;
let followsEnd = true;
let doubt = 0;

const running = () => shown.findLast(({ handle }) => handle !== null);

/** @param {Turn} turn @returns {Shown} */
function show(turn) {
  /** @type {Shown} */
  const entry = { turn, handle: null, view: new TurnView(turn.prompt, () => ask(turn.prompt, { like: turn })) };
  page.turns.append(...entry.view.elements);
  shown.push(entry);
  return entry;
}

/** Takes a turn up where it stands: an ended one is shown, any other is followed or asked with its own key.
 * @param {Turn} turn
 */
function takeUp(turn) {
  const entry = show(turn);
  if (isEnd(turn.status)) return;
  const handle = turn.responseId === null
    ? client.ask({ ...turn.request, idempotency_key: turn.key })
    : client.follow(turn.responseId);
  entry.handle = handle;
  handle.addEventListener("change", () => changed(entry));
  void handle.done.then(() => ended(entry));
}

/** @param {string} prompt @param {{whole?: boolean, like?: Turn}} [how] */
function ask(prompt, how) {
  if (running()) return;
  const key = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0"));
  takeUp(conversation.add(prompt, key.join(""), how));
  followsEnd = true;
  draw();
}

/** @param {Shown} entry */
function changed({ turn, handle }) {
  if (handle?.answer.responseId && turn.responseId === null) {
    turn.responseId = handle.answer.responseId;
    conversation.save(); // from here on a reload follows
  }
  draw();
}

/** @param {Shown} entry */
function ended(entry) {
  const { turn, handle, view } = entry;
  if (handle === null || !conversation.turns.includes(turn)) return;
  const { answer } = handle;
  if (answer.error?.code === "previous_response_not_found" && typeof turn.request.input === "string") {
    // The server has forgotten what came before; this page has not, and tells it all.
    entry.handle = null;
    shown = shown.filter((other) => other !== entry);
    view.remove();
    conversation.remove(turn);
    ask(turn.prompt, { whole: true });
    return;
  }
  draw();
  entry.handle = null;
  turn.text = answer.text;
  turn.model = answer.model;
  turn.note = statusWords(handle, client.state);
  page.said.textContent = answer.status === "completed" ? "The answer is complete." : turn.note;
  // Closed is the connection, not the answer: what the server still has is followed after a reload.
  const unfinished = answer.error?.code === "connection_closed";
  turn.status = answer.status;
  if (!unfinished) conversation.save();
}

/** Draws before the next frame, however many events come until then. */
function draw() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    drawNow();
  });
}

function drawNow() {
  for (const { turn, view, handle } of shown) {
    const { status, responseId, text, model } = handle?.answer ?? turn;
    view.show({
      status, responseId, text, simulated: model === SIMULATION,
      note: handle ? statusWords(handle, spokenState()) : turn.note,
      again: turn === shown.at(-1)?.turn && handle === null && (status === "failed" || status === "cancelled"),
    });
    if (model === SIMULATION) page.simulation.hidden = false;
  }
  const active = running();
  page.start.hidden = shown.length > 0;
  page.fresh.disabled = shown.length === 0;
  page.stop.hidden = active === undefined;
  page.stop.disabled = active?.handle?.stopping ?? false;
  page.send.hidden = active !== undefined;
  page.send.disabled = page.prompt.value.trim() === "";
  if (followsEnd) page.log.scrollTop = page.log.scrollHeight;
  page.latest.hidden = followsEnd;
}

/** A loss that nobody has had time to notice is not spoken of. */
function spokenState() {
  return page.banner.hidden ? "open" : client.state;
}

/** The dot tells at once; the banner waits until there is something to worry about. */
function drawState() {
  page.state.dataset.state = client.state;
  page.stateWord.textContent = STATE_WORDS[client.state];
  if (client.state === "open") {
    window.clearTimeout(doubt);
    doubt = 0;
    page.banner.hidden = true;
  } else if (client.state === "closed") tellState();
  else if (doubt === 0) doubt = window.setTimeout(tellState, DOUBT_MS);
  draw();
}

function tellState() {
  page.banner.textContent = bannerWords(client.state, client.closed);
  page.banner.dataset.state = client.state;
  page.banner.hidden = client.state === "open";
  draw();
}

function submit() {
  const prompt = page.prompt.value.trim();
  if (prompt === "" || running()) return;
  page.prompt.value = "";
  fitPrompt();
  ask(prompt);
}

function fitPrompt() {
  page.prompt.style.height = "auto";
  page.prompt.style.height = `${Math.min(page.prompt.scrollHeight, TALLEST_PROMPT_PX)}px`;
  page.send.disabled = page.prompt.value.trim() === "";
}

function startAnew() {
  const active = running();
  for (const { view } of shown) view.remove();
  shown = [];
  conversation.clear();
  active?.handle?.stop();
  followsEnd = true;
  draw();
  page.prompt.focus();
}

/** The demo model is to be known before the first answer; if this fails, the first answer tells. */
async function nameSimulation() {
  const response = await fetch("/v1/models", { signal: AbortSignal.timeout(5_000) });
  const { data } = await response.json();
  page.simulation.hidden = !data.some((/** @type {{id: string}} */ model) => model.id === SIMULATION);
}

page.form.addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
page.prompt.addEventListener("input", fitPrompt);
page.prompt.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  submit();
});
page.stop.addEventListener("click", () => {
  running()?.handle?.stop();
  page.prompt.focus();
});
page.fresh.addEventListener("click", startAnew);
page.latest.addEventListener("click", () => {
  followsEnd = true;
  draw();
});
page.log.addEventListener("scroll", () => {
  const below = page.log.scrollHeight - page.log.scrollTop - page.log.clientHeight;
  followsEnd = below < FOLLOW_END_PX;
  page.latest.hidden = followsEnd;
}, { passive: true });
for (const suggestion of page.start.querySelectorAll("button")) {
  suggestion.addEventListener("click", () => ask(suggestion.dataset.prompt ?? suggestion.textContent ?? ""));
}
client.addEventListener("state", drawState);
new ResizeObserver(draw).observe(page.log); // the banner or a phone's keyboard takes room from the end

for (const turn of conversation.turns) takeUp(turn);
drawState();
drawNow();
nameSimulation().catch(() => {});
if (!window.matchMedia("(pointer: coarse)").matches) page.prompt.focus();
