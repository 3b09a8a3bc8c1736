// @ts-check
/** The code reviewer: it sends a snippet and shows a review that can be shared. */

import { byId } from "./by-id.js";
import { attachPage, HoldlineClient } from "./client.js";
import { LANGUAGES } from "./code.js";
import { textOf } from "./file-text.js";
import { guess, keyFor, requestFor, unfenced } from "./review-text.js";
import { ReviewView } from "./review-view.js";
import { askForToken, keptToken, UNAUTHENTICATED } from "./sign-in.js";
import { COPIED_MS, copy } from "./signs.js";
import { SnippetView } from "./snippet-view.js";

/** @typedef {import("./answer-handle.js").AnswerHandle} AnswerHandle */
/** @typedef {{request: import("./protocol.js").Request, key: string | null, repeated: number}} Asked */
/** @typedef {{from: string, again?: [string, string, number], id?: string} & Partial<Asked>} Pending `from` is the address's hash */

const PENDING = "holdline.review";
const LARGEST_FILE = 200_000;
const BANNER_DELAY_MS = 1_500;

const form = byId("form", HTMLFormElement);
const code = byId("code", HTMLTextAreaElement);
const language = byId("language", HTMLSelectElement);
const file = byId("file", HTMLInputElement);
const problem = byId("problem", HTMLElement);
const result = byId("result", HTMLElement);
const listing = byId("listing", HTMLElement);
const review = byId("review", HTMLElement);
const stop = byId("stop", HTMLButtonElement);
const again = byId("again", HTMLButtonElement);
const share = byId("share", HTMLButtonElement);
const other = byId("other", HTMLButtonElement);

const client = new HoldlineClient("v1/responses");
const token = keptToken();
/** @type {HeadersInit} */
const headers = token ? { Authorization: `Bearer ${token}` } : {};
if (token) client.authenticate(token);
attachPage(client, window);
client.addEventListener("state", () => {
  setTimeout(draw, client.state === "open" ? 0 : BANNER_DELAY_MS);
  // After a token is entered, the page reloads and sends the stored request again.
  if (client.closed?.code === UNAUTHENTICATED) askForToken(() => location.reload());
});

/** @type {{handle: AnswerHandle, view: ReviewView, again: number, code: string, language: string, saidLost: number} | null} */
let shown = null;
let drawing = 0;
let dropped = "";

for (const known of LANGUAGES) language.append(new Option(known, known));

/** The default model, which is part of the idempotency key of a review. */
const model = fetch("v1/models", { headers, signal: AbortSignal.timeout(5_000) })
  .then(async (response) => String((await response.json()).data[0]?.id ?? ""))
  .catch(() => "");

/** Requests a review. @param {string} text @param {string} named @param {number} repeated */
async function ask(text, named, repeated = 0) {
  const request = requestFor(text, named);
  // If the page is reloaded before the key is known, it requests the review again.
  keep({ again: [text, named, repeated] });
  start({ request, key: await keyFor(request, await model, repeated), repeated });
}

/** Sends the request of a review. @param {Asked} asked */
function start(asked) {
  keep(asked);
  const { request, key, repeated } = asked;
  const { code: text, language: named } = unfenced(String(request.prompt.variables.code));
  show(client.ask({ ...request, ...(key ? { idempotency_key: key } : {}) }), text, named, repeated);
}

/** Stores the last step of a review, which a reload at the current address continues. @param {Omit<Pending, "from">} step */
function keep(step) {
  sessionStorage.setItem(PENDING, JSON.stringify({ from: location.hash, ...step }));
}

/**
 * Puts the id of a review into the address. A reload that began before this change still loads the old address, so the
 * id is also stored.
 * @param {string} id
 */
function setAddress(id) {
  if (location.hash === `#${id}`) return;
  keep({ id });
  history.replaceState(null, "", `#${id}`);
}

/** Shows a review and its snippet. @param {AnswerHandle} handle @param {string} text @param {string} named @param {number} repeated */
function show(handle, text, named, repeated) {
  const view = new ReviewView((first, last) => snippet?.mark(first, last));
  const snippet = text === "" ? null : new SnippetView(text, named);
  shown = { handle, view, again: repeated, code: text, language: named, saidLost: 0 };
  form.hidden = true;
  result.hidden = false;
  listing.replaceChildren(...(snippet ? [snippet.element] : []));
  review.replaceChildren(view.element);
  handle.onchange = () => {
    if (shown?.handle !== handle) return; // the user has opened another review or the form
    if (handle.answer.responseId) setAddress(handle.answer.responseId);
    draw();
  };
  void handle.done.then(draw);
  draw();
}

function draw() {
  drawing ||= requestAnimationFrame(() => {
    drawing = 0;
    if (!shown) return;
    const { handle, view } = shown;
    view.show(handle, client.state);
    const running = !handle.answer.ended;
    stop.hidden = !running || handle.request === null;
    stop.disabled = handle.stopping;
    again.hidden = running || shown.code === "";
    share.hidden = handle.answer.responseId === null;
  });
}

/** Shows a shared review. Its snippet also comes from the server. @param {string} id */
async function follow(id) {
  setAddress(id);
  const handle = client.follow(id);
  show(handle, "", "", 0);
  try {
    const response = await fetch(`v1/responses/${id}/input_items?order=asc`, { headers });
    const { data } = await response.json();
    const content = data[0].content;
    const text = typeof content === "string" ? content : content[0].text;
    const { code: snippet, language: named } = unfenced(text);
    if (shown?.handle === handle) {
      const viewed = new SnippetView(snippet, named);
      listing.replaceChildren(viewed.element);
      shown = { ...shown, code: snippet, language: named, view: new ReviewView((first, last) => viewed.mark(first, last)) };
      review.replaceChildren(shown.view.element);
      draw();
    }
  } catch {
    // If the server has deleted the review, the page says so.
  }
}

/** Loads a file into the form. @param {File} taken */
async function take(taken) {
  problem.textContent = "";
  if (taken.size > LARGEST_FILE) {
    problem.textContent = `${taken.name} is larger than ${LARGEST_FILE / 1000} KB. Paste a part of it instead.`;
    return;
  }
  const text = textOf(new Uint8Array(await taken.arrayBuffer()));
  if (text === null) {
    problem.textContent = `${taken.name} is not a text file, or its encoding is unknown. Save it as UTF-8.`;
    return;
  }
  dropped = taken.name;
  code.value = text;
  code.focus();
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const text = code.value.replace(/\r\n?/g, "\n").replace(/^\n+|\s+$/g, "");
  if (text === "") {
    problem.textContent = "There is no code yet. Paste some, or choose a file.";
    code.focus();
    return;
  }
  problem.textContent = "";
  void ask(text, language.value || guess(text, dropped));
});
code.addEventListener("input", () => (dropped = ""));
code.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !event.isComposing) form.requestSubmit();
});
file.addEventListener("change", () => {
  if (file.files?.[0]) void take(file.files[0]);
  file.value = "";
});
for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
  form.addEventListener(name, (event) => {
    const { dataTransfer } = /** @type {DragEvent} */ (event);
    if (!dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    form.toggleAttribute("data-over", name === "dragenter" || name === "dragover");
    if (name === "drop" && dataTransfer.files[0]) void take(dataTransfer.files[0]);
  });
}
stop.addEventListener("click", () => shown?.handle.stop());
again.addEventListener("click", () => {
  if (shown) void ask(shown.code, shown.language, shown.again + 1);
});
share.addEventListener("click", async () => {
  await copy(location.href);
  share.textContent = "Link copied";
  setTimeout(() => (share.textContent = "Copy the link"), COPIED_MS);
});
other.addEventListener("click", () => {
  sessionStorage.removeItem(PENDING);
  history.pushState(null, "", location.pathname);
  begin();
  code.focus();
});
window.addEventListener("popstate", () => begin());
window.addEventListener("hashchange", () => begin());

/** Continues the last step of a review, or shows the review in the address, or else the form.
 * @param {boolean} [reloaded] whether the page was reloaded; a link to the form does not continue an accepted review
 */
function begin(reloaded = false) {
  const id = location.hash.slice(1);
  if (shown && id !== "" && shown.handle.answer.responseId === id) return;
  shown = null;
  /** @type {Partial<Pending>} */
  const pending = JSON.parse(sessionStorage.getItem(PENDING) ?? "{}");
  const current = pending.from === location.hash;
  if (pending.id) sessionStorage.removeItem(PENDING);
  if (current && pending.id && reloaded) return void follow(pending.id);
  if (current && pending.again) return void ask(...pending.again);
  if (current && pending.request) return start(/** @type {Asked} */ (pending));
  if (/^resp_\w+$/.test(id)) return void follow(id);
  form.hidden = false;
  result.hidden = true;
}

const [entry] = performance.getEntriesByType("navigation");
begin(/** @type {PerformanceNavigationTiming | undefined} */ (entry)?.type === "reload");
