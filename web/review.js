// @ts-check
/** The code reviewer: it sends files or a diff, and shows their reviews, which can be shared and exported. */

import { byId } from "./by-id.js";
import { attachPage, HoldlineClient } from "./client.js";
import { LANGUAGES } from "./code.js";
import { make } from "./dom.js";
import { ReviewBoard } from "./review-board.js";
import { counted, markdownOf } from "./review-comments.js";
import { chosenFiles, droppedFiles, readText, sourcesOf, toSources } from "./review-drop.js";
import { MAX_FILE_BYTES, MAX_FILES, Skipped, skippedFile } from "./review-files.js";
import { fit, sizeOf } from "./review-files.js";
import { ReviewSelection } from "./review-selection.js";
import { forget, idsIn, isRequested, keep, kept, setRequested } from "./review-store.js";
import { guess, keyFor, requestFor, unfenced } from "./review-text.js";
import { askForToken, keptToken, UNAUTHENTICATED } from "./sign-in.js";
import { COPIED_MS, copy } from "./signs.js";

/** @typedef {import("./review-board.js").Entry} Entry */
/** @typedef {import("./review-board.js").ReviewPane} ReviewPane */
/** @typedef {import("./review-files.js").Source} Source */
/** @typedef {Omit<Entry, "handle" | "mine">} Requested a file that is to be reviewed */

const BANNER_DELAY_MS = 1_500;
const HINT_DELAY_MS = 200;
const FETCH_MS = 20_000;

const form = byId("form", HTMLFormElement);
const code = byId("code", HTMLTextAreaElement);
const language = byId("language", HTMLSelectElement);
const file = byId("file", HTMLInputElement);
const folder = byId("folder", HTMLInputElement);
const hint = byId("hint", HTMLElement);
const chosen = byId("chosen", HTMLElement);
const clear = byId("clear", HTMLButtonElement);
const problem = byId("problem", HTMLElement);
const result = byId("result", HTMLElement);
const review = byId("review", HTMLElement);
const stop = byId("stop", HTMLButtonElement);
const share = byId("share", HTMLButtonElement);
const audience = byId("audience", HTMLElement);
const save = byId("save", HTMLButtonElement);
const copyText = byId("copy", HTMLButtonElement);
const other = byId("other", HTMLButtonElement);

const client = new HoldlineClient("v1/responses");
const token = keptToken();
/** @type {HeadersInit} */
const headers = token ? { Authorization: `Bearer ${token}` } : {};
if (token) client.authenticate(token);
attachPage(client, window);
client.addEventListener("state", () => {
  setTimeout(() => draw(), client.state === "open" ? 0 : BANNER_DELAY_MS);
  // After a token is entered, the page reloads and sends the stored requests again.
  if (client.closed?.code === UNAUTHENTICATED) askForToken(() => location.reload());
});
audience.textContent = token
  ? "Only people who sign in with the same account can open the link. It works until the server deletes the answers."
  : "Anyone who has the link and can reach this server can read the code and the review. The link works until the server deletes the answers.";

/** @type {ReviewBoard | null} */
let board = null;
/** The panes to draw in the next frame. @type {Set<ReviewPane>} */
const changed = new Set();
let drawing = 0;
/** The name of the file in the text field. */
let dropped = "";
/** @type {ReviewSelection | null} */
let selection = null;
/** The number of the latest attempt to show something; an earlier attempt that finishes later is dropped. */
let turn = 0;

for (const known of LANGUAGES) language.append(new Option(known, known));

/** The default model, which is part of the idempotency key of a review. */
const model = fetch("v1/models", { headers, signal: AbortSignal.timeout(5_000) })
  .then(async (response) => String((await response.json()).data[0]?.id ?? ""))
  .catch(() => "");

/** Adds the request and its idempotency key to a file. @param {Requested} wanted */
async function prepared(wanted) {
  const { code: text, language: named, diff, name, after } = wanted;
  const request = requestFor(text, diff ? "diff" : named, name);
  return { ...wanted, request, key: await keyFor(request, await model, after) };
}

/** Requests the review of a file. @param {Awaited<ReturnType<typeof prepared>>} file @returns {Entry} */
function send({ request, key, ...wanted }) {
  return { ...wanted, mine: true, handle: client.ask({ ...request, ...(key ? { idempotency_key: key } : {}) }) };
}

/** Requests the reviews of files, and shows them. @param {Requested[]} files */
async function ask(files) {
  // If the page is reloaded before the requests are sent, it requests the reviews again.
  keep(files);
  const now = ++turn;
  const ready = await Promise.all(files.map(prepared));
  if (now === turn) show(ready.map(send)); // otherwise the user has opened something else
}

/** Shows reviews. @param {Entry[]} entries */
function show(entries) {
  const made = new ReviewBoard(entries, (pane) => void repeat(pane));
  board = made;
  form.hidden = true;
  result.hidden = false;
  review.replaceChildren(made.element);
  for (const pane of made.panes) watch(pane);
  draw();
}

/** Draws a pane after each change of its review. @param {ReviewPane} pane */
function watch(pane) {
  const { handle } = pane.entry;
  const update = () => {
    if (!board?.panes.includes(pane) || pane.entry.handle !== handle) return; // the user has opened another review
    const id = handle.answer.responseId;
    if (pane.entry.mine && id) setRequested(id);
    setAddress();
    draw(pane);
  };
  handle.onchange = update;
  void handle.done.then(update);
}

/** Repeats the review of a file. @param {ReviewPane} pane */
async function repeat(pane) {
  const { handle, ...wanted } = pane.entry;
  const repeated = { ...wanted, after: handle.answer.responseId ?? wanted.after };
  // If the page is reloaded before the request is sent, it requests the review again.
  keep(stored(pane, repeated));
  const ready = await prepared(repeated);
  if (!board?.panes.includes(pane) || pane.entry.handle !== handle) return;
  pane.entry = send(ready);
  watch(pane);
  draw(pane);
}

/** Returns what a reload needs to show the board again. @param {ReviewPane} [except] a pane @param {Requested} [instead] its next request */
function stored(except, instead) {
  return (board?.panes ?? []).map((pane) => {
    if (pane === except && instead) return plain(instead);
    const id = pane.entry.handle.answer.responseId;
    return id ? { id } : plain(pane.entry);
  });
}

/** Returns the fields of a request. @param {Requested} wanted @returns {Requested} */
const plain = ({ name, language: named, code: text, diff, after }) => ({ name, language: named, code: text, diff, after });

/**
 * Puts the ids of the reviews into the address once each request was accepted or refused. A reload that began before this
 * change still loads the old address, so the ids are also stored.
 */
function setAddress() {
  const answers = board?.panes.map(({ entry }) => entry.handle.answer) ?? [];
  if (!answers.every(({ responseId, ended }) => responseId !== null || ended)) return;
  const ids = answers.flatMap(({ responseId }) => responseId ?? []);
  if (ids.length === 0 || location.hash === `#${ids.join(",")}`) return;
  keep(stored());
  history.replaceState(null, "", `#${ids.join(",")}`);
  if (ids.length < answers.length) keep(stored()); // a reload requests the refused ones again
}

/** Draws a pane, or all of them, in the next frame. @param {ReviewPane} [pane] */
function draw(pane) {
  for (const one of pane ? [pane] : board?.panes ?? []) changed.add(one);
  drawing ||= requestAnimationFrame(() => {
    drawing = 0;
    if (!board) return;
    board.show(client.state, changed);
    changed.clear();
    const entries = board.panes.map(({ entry }) => entry);
    const running = entries.filter(({ handle }) => !handle.answer.ended);
    stop.hidden = !running.some(({ mine }) => mine);
    stop.disabled = running.every(({ handle }) => handle.stopping);
    stop.textContent = entries.length > 1 ? "Stop all" : "Stop";
    // While some requests are not accepted yet, a link would lack their reviews.
    share.hidden = audience.hidden = entries.some(({ handle }) => handle.answer.responseId === null && !handle.answer.ended);
    save.hidden = copyText.hidden = entries.every(({ handle }) => handle.answer.text === "");
  });
}

/** Shows stored or shared reviews. @param {import("./review-store.js").Stored[]} files */
async function resume(files) {
  const now = ++turn;
  const ready = await Promise.all(files.map((one) => ("id" in one ? one : prepared(one))));
  if (now !== turn) return;
  show(ready.map((one) => ("id" in one ? followed(one.id) : send(one))));
  setAddress();
  await Promise.all((board?.panes ?? []).filter(({ entry }) => entry.code === "").map(loadCode));
}

/** Follows a review that was requested earlier. @param {string} id @returns {Entry} */
function followed(id) {
  return { name: "", language: "", code: "", diff: false, after: "", mine: isRequested(id), handle: client.follow(id) };
}

/** Loads the code of a review from the server. @param {ReviewPane} pane */
async function loadCode(pane) {
  const id = pane.entry.handle.answer.responseId;
  try {
    const response = await fetch(`v1/responses/${id}/input_items?order=asc`, { headers, signal: AbortSignal.timeout(FETCH_MS) });
    const { data } = await response.json();
    const content = data[0].content;
    const { code: text, language: named, name } = unfenced(typeof content === "string" ? content : content[0].text);
    const diff = named === "diff";
    Object.assign(pane.entry, { code: text, name, diff, language: diff ? guess("", name) : named });
    pane.setCode();
    draw(pane);
  } catch {
    // If the server has deleted the review, the status line of the pane says so.
  }
}

/** Loads one file into the text field, or lists several. @param {import("./review-drop.js").Found[]} found @param {Skipped} skipped */
async function take(found, skipped) {
  problem.textContent = "";
  const [only] = found;
  if (only && found.length === 1 && skipped.reasons.size === 0 && !only.path.includes("/")) return takeOne(only.file);
  const sources = await sourcesOf(found, skipped);
  if (sources.length === 0) {
    problem.textContent = `There is no file to review. ${skipped.lines().join("; ")}`.trim();
    return;
  }
  choose(new ReviewSelection(sources, skipped));
}

/** Loads a file into the text field. @param {File} taken */
async function takeOne(taken) {
  const why = skippedFile(taken.name, taken.size);
  if (why) {
    problem.textContent = taken.size > MAX_FILE_BYTES
      ? `${taken.name} is larger than ${MAX_FILE_BYTES / 1_000} KB. Paste a part of it instead.` : `${taken.name} is not reviewed: ${why}.`;
    return;
  }
  const text = await readText(taken).catch(() => null);
  if (text === null) {
    problem.textContent = `${taken.name} is not a text file, or its encoding is unknown. Save it as UTF-8.`;
    return;
  }
  choose(null);
  dropped = taken.name;
  code.value = text;
  showHint();
  code.focus();
}

/** Shows a list of files instead of the text field, or the text field. @param {ReviewSelection | null} made */
function choose(made) {
  selection = made;
  chosen.replaceChildren(...(made ? [made.element] : []));
  form.toggleAttribute("data-chosen", made !== null);
  clear.hidden = made === null;
}

/** Returns the files in the text field: one, or those of a diff. */
function pasted() {
  const skipped = new Skipped();
  const isDiff = dropped === "" || /\.(?:diff|patch)$/i.test(dropped);
  return { sources: toSources(code.value, isDiff ? "" : dropped, skipped), skipped };
}

function showHint() {
  const { sources, skipped } = pasted();
  const isDiff = sources.some(({ diff }) => diff);
  const reasons = isDiff && skipped.reasons.size > 0 ? ` Not reviewed: ${skipped.lines().join("; ")}.` : "";
  hint.textContent = isDiff ? `This is a diff. ${counted(sources.length, "file")} of it will be reviewed.${reasons}` : "";
}

let hinting = 0;

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const { sources, skipped } = selection ? { sources: selection.sources, skipped: new Skipped() } : pasted();
  problem.textContent = (selection ? selection.problem : problemOf(sources, skipped));
  if (problem.textContent !== "") return void (selection ? chosen.querySelector("input") : code)?.focus();
  void ask(sources.map(({ name, code: text, diff }) => ({
    name: name || (diff ? "" : dropped), code: text, diff, after: "",
    language: diff ? guess("", name) : (!selection && language.value) || guess(text, name || dropped),
  })));
});

/** Returns why the text field cannot be reviewed, or "". @param {Source[]} sources @param {Skipped} skipped */
function problemOf(sources, skipped) {
  if (code.value.trim() === "") return "There is no code yet. Paste some, or choose a file.";
  if (sources.length === 0) return `The diff has no lines to review. ${skipped.lines().join("; ")}`;
  const large = sources.find((source) => sizeOf(source.code) > MAX_FILE_BYTES);
  if (large) return `${large.name || "The code"} is larger than ${MAX_FILE_BYTES / 1_000} KB. Paste a part of it.`;
  const { fitting } = fit(sources);
  if (fitting.length === sources.length) return "";
  // A diff of many files is listed, so that the user can select some of them.
  choose(new ReviewSelection(sources, skipped));
  return `The diff has ${sources.length} files. A review has at most ${MAX_FILES} files. Select some of them.`;
}

code.addEventListener("input", () => {
  dropped = "";
  clearTimeout(hinting);
  hinting = setTimeout(showHint, HINT_DELAY_MS);
});
code.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !event.isComposing) form.requestSubmit();
});
for (const input of [file, folder]) {
  input.addEventListener("change", () => {
    const found = chosenFiles(input.files ?? []);
    if (found.length > 0) void take(found, new Skipped());
    input.value = "";
  });
}
for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
  form.addEventListener(name, (event) => {
    const { dataTransfer } = /** @type {DragEvent} */ (event);
    if (!dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    form.toggleAttribute("data-over", name === "dragenter" || name === "dragover");
    if (name !== "drop") return;
    const skipped = new Skipped();
    droppedFiles(dataTransfer, skipped).then((found) => take(found, skipped)).catch(() => {
      problem.textContent = "The browser cannot read what was dropped. Choose the files instead.";
    });
  });
}
clear.addEventListener("click", () => {
  choose(null);
  problem.textContent = "";
  code.focus();
});
stop.addEventListener("click", () => {
  for (const { entry } of board?.panes ?? []) if (entry.mine) entry.handle.stop();
});
share.addEventListener("click", () => void copied(share, location.href));
copyText.addEventListener("click", () => void copied(copyText, markdown()));
save.addEventListener("click", () => {
  const link = make("a");
  link.href = URL.createObjectURL(new Blob([markdown()], { type: "text/markdown" }));
  link.download = "review.md";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), FETCH_MS); // the download may begin later
});

/** Copies a text, and says so on the button. @param {HTMLButtonElement} button @param {string} text */
async function copied(button, text) {
  const label = button.dataset.label ??= button.textContent ?? "";
  await copy(text);
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = label), COPIED_MS);
}

/** Returns the reviews on the board as Markdown. */
function markdown() {
  return markdownOf((board?.panes ?? []).map(({ name, entry, view }) => {
    const { text, status } = entry.handle.answer;
    return { name, text, status: status === "completed" ? "" : view.words };
  }));
}

other.addEventListener("click", () => {
  forget();
  choose(null);
  history.pushState(null, "", location.pathname);
  begin();
  code.focus();
});
window.addEventListener("popstate", () => begin());
window.addEventListener("hashchange", () => begin());

/** Continues the stored review, or shows the review in the address, or else the form. @param {boolean} [reloaded] whether the page was reloaded */
function begin(reloaded = false) {
  const shown = board?.panes.flatMap(({ entry }) => entry.handle.answer.responseId ?? []) ?? [];
  if (shown.length > 0 && location.hash === `#${shown.join(",")}`) return;
  board = null;
  turn += 1;
  const stored = kept(reloaded);
  const files = stored.length > 0 ? stored : idsIn(location.hash, MAX_FILES).map((id) => ({ id }));
  if (files.length > 0) return void resume(files);
  form.hidden = false;
  result.hidden = true;
}

const [entry] = performance.getEntriesByType("navigation");
begin(/** @type {PerformanceNavigationTiming | undefined} */ (entry)?.type === "reload");
