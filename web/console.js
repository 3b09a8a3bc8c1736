// @ts-check
/** The operators' console: it shows the state of the service live, and changes nothing. */

import { byId } from "./by-id.js";
import { attachPage } from "./client.js";
import { Connection } from "./connection.js";
import { commandLine } from "./console-command.js";
import { setText } from "./console-list.js";
import { TimelineView } from "./console-timeline.js";
import { OverviewView } from "./console-view.js";
import { ago, clock, isResponseId, kindsOf, responseIdIn } from "./console-format.js";
import { make } from "./dom.js";
import { auth, socketUrl } from "./protocol.js";
import { UNAUTHENTICATED } from "./sign-in.js";

/** @typedef {import("./console-view.js").Overview} Overview */
/** @typedef {import("./console-view.js").Alert} Alert */
/** @typedef {import("./protocol.js").ServerEvent} ServerEvent */

/** Where this tab keeps the key until it is closed. */
const KEPT = "holdline.console";
/** After this time without a state, the page shows how old its data is. The server sends two states per second. */
const STALE_MS = 4_000;
const TICK_MS = 1_000;

const live = byId("live", HTMLElement);
const liveText = byId("live-text", HTMLElement);
const signIn = byId("sign-in", HTMLFormElement);
const signInMessage = byId("sign-in-message", HTMLElement);
const key = byId("key", HTMLInputElement);
const signOut = byId("sign-out", HTMLButtonElement);
const signedIn = byId("signed-in", HTMLElement);
const stale = byId("stale", HTMLElement);
const alerts = byId("alerts", HTMLElement);
const announced = byId("announced", HTMLElement);
const find = byId("find", HTMLFormElement);
const search = byId("search", HTMLInputElement);
const timelinePlace = byId("timeline", HTMLElement);
const overviewPlace = byId("overview", HTMLElement);

/** @type {string | null} */
let credential = sessionStorage.getItem(KEPT);
let overview = new OverviewView();
/** @type {TimelineView | null} */
let timeline = null;
/** The time of the last state, of the page's own clock; 0 before the first one. */
let seenAt = 0;
let redisAvailable = true;
let why = "";
/** @type {Connection} */
let connection;
let detach = () => {};

overviewPlace.append(overview.element);

/** Opens a connection with the current credential. */
function connect() {
  detach();
  connection?.end();
  const made = new Connection(socketUrl("v1/responses", location.href), {
    WebSocket: globalThis.WebSocket,
    now: Date.now,
    random: Math.random,
    setTimer: (run, ms) => setTimeout(run, ms),
    clearTimer: (timer) => clearTimeout(timer),
  }, {
    state: (state) => {
      if (made !== connection) return;
      if (state === "closed" && made.close?.code === UNAUTHENTICATED) askForKey();
      showLive();
    },
    open: () => {
      if (credential !== null) made.send(auth(credential));
      watch();
    },
    lost: () => {},
    event: (event) => made === connection && receive(event),
  });
  connection = made;
  connection.start();
  detach = attachPage(connection, window);
  showLive();
}

/** Asks the server for the state, and for the timeline that the address names. */
function watch() {
  connection.send({ type: "holdline:console", response_id: timeline?.id ?? null });
}

/** Handles a message of the server. @param {ServerEvent} event */
function receive(event) {
  if (event.type === "holdline:state") return showState(/** @type {any} */ (event));
  if (event.type === "holdline:timeline") return timeline?.id === event.response_id ? timeline?.show(/** @type {any} */ (event)) : undefined;
  if (event.type === "holdline:authenticated") return timeline?.allow(event.scopes.includes("contents"));
  if (event.type !== "error") return;
  const { code, message, holdline } = event.error;
  const own = holdline?.error_code ?? code;
  if (own === "authentication_required") why = "This server requires a key or a token.";
  else if (own === "invalid_token") why = "The server does not accept this key. It may be expired, revoked or misspelt.";
  else if (own === "insufficient_scope") askForKey("This key does not have the scope operator, so it cannot open the console.");
  else why = message;
}

/** @param {Overview} state */
function showState(state) {
  signIn.hidden = true;
  signedIn.hidden = false;
  signOut.hidden = credential === null;
  redisAvailable = state.redis_available;
  if (redisAvailable) seenAt = performance.now();
  overview.show(state, performance.now());
  showAlerts(state.alerts);
  showLive();
}

/** Shows the alerts. If only their numbers have changed, a screen reader is told nothing, and a focused button stays.
 * @param {Alert[]} found
 */
function showAlerts(found) {
  const kinds = kindsOf(found);
  if (alerts.dataset.kinds !== kinds) {
    alerts.dataset.kinds = kinds;
    alerts.replaceChildren(...found.map(({ level, command }) => {
      const title = make("strong", "alert-level", level === "problem" ? "Problem" : "Warning");
      const made = make("div", "alert", make("p", "alert-text", title, " ", make("span")), ...(command ? [commandLine(command)] : []));
      made.dataset.level = level;
      return made;
    }));
    announced.textContent = found.map(({ text }) => text).join(" ");
  }
  for (const [index, span] of alerts.querySelectorAll(".alert-text > span").entries()) setText(span, found[index]?.text ?? "");
}

/** Shows whether the data is live, and how old it is otherwise. */
function showLive() {
  const age = seenAt === 0 ? Infinity : performance.now() - seenAt;
  const { state } = connection;
  const fresh = state === "open" && redisAvailable && age < STALE_MS;
  live.dataset.state = fresh ? "live" : signIn.hidden ? "stale" : "out";
  setText(liveText, fresh ? "Live" : signIn.hidden ? liveWords(state) : "Signed out");
  const data = seenAt === 0 ? "" : ` The page shows the state of ${clock(Date.now() / 1_000 - age / 1_000)}, ${ago(age / 1_000)}.`;
  const said = fresh || !signIn.hidden || age < STALE_MS ? "" : staleWords(state);
  setText(stale, said && said + data);
  stale.hidden = said === "";
  signedIn.toggleAttribute("data-stale", said !== "");
}

/** @param {import("./connection.js").State} state */
const liveWords = (state) => (state === "open" ? (redisAvailable ? "Loading…" : "No Redis") : state === "connecting" ? "Connecting…" : state === "closed" ? "Closed" : "Reconnecting…");

/** @param {import("./connection.js").State} state */
function staleWords(state) {
  if (state === "closed") return `The server has closed the connection${why ? `: ${why}` : ""}. Reload the page.`;
  if (state !== "open") return "The connection to the server is lost. The page reconnects by itself.";
  if (!redisAvailable) return "The server cannot reach Redis. Answers are late, and nothing is accepted until Redis is back.";
  return seenAt === 0 ? why : "The server sends no state.";
}

/** Shows the form for the key, and forgets the current one. @param {string} [reason] */
function askForKey(reason = "") {
  if (connection.state !== "closed") connection.end();
  signInMessage.textContent = reason || (credential === null ? "This server requires a key or a token." : why || "Sign in again.");
  forget();
  signIn.hidden = false;
  signedIn.hidden = true;
  signOut.hidden = true;
  showLive();
  key.focus();
}

/** Removes the key and all data from the page. */
function forget() {
  credential = null;
  why = "";
  seenAt = 0;
  sessionStorage.removeItem(KEPT);
  const fresh = new OverviewView();
  overview.element.replaceWith(fresh.element);
  overview = fresh;
  alerts.replaceChildren();
  delete alerts.dataset.kinds;
  announced.textContent = "";
  timeline?.element.remove();
  timeline = null;
}

/** Shows what the address names: the timeline of a response, or the overview. */
function showAddress() {
  const id = location.hash.slice(1);
  const wanted = isResponseId(id) ? id : null;
  if (wanted !== (timeline?.id ?? null)) {
    timeline = wanted === null ? null : new TimelineView(wanted, () => credential);
    timelinePlace.replaceChildren(...(timeline ? [timeline.element] : []));
  }
  timelinePlace.hidden = timeline === null;
  overviewPlace.hidden = timeline !== null;
  alerts.hidden = timeline !== null;
  timeline?.heading.focus();
  document.title = timeline ? `${wanted} · Holdline console` : "Console · Holdline";
  if (connection?.state === "open") watch();
}

signIn.addEventListener("submit", (event) => {
  event.preventDefault();
  credential = key.value.trim();
  sessionStorage.setItem(KEPT, credential);
  key.value = "";
  signIn.hidden = true;
  signInMessage.textContent = "";
  showAddress();
  connect();
});

signOut.addEventListener("click", () => {
  connection.end();
  askForKey("You have signed out. This tab has forgotten the key.");
});

find.addEventListener("submit", (event) => {
  event.preventDefault();
  const id = responseIdIn(search.value);
  if (id === null) return;
  search.value = "";
  overview.filter("");
  location.hash = id;
});
search.addEventListener("input", () => overview.filter(responseIdIn(search.value) ?? search.value.trim()));

window.addEventListener("hashchange", showAddress);
setInterval(() => {
  if (document.visibilityState === "visible") showLive();
}, TICK_MS);
showAddress();
connect();
