// @ts-check
/** The front page: a switch that cuts the connection, and snippets to copy. */

import { byId } from "./by-id.js";
import { askForToken, hideSignIn, keptToken, UNAUTHENTICATED } from "./sign-in.js";
import { copy } from "./signs.js";

const UNPLUGGED_MS = 5_000;

// While the switch is off, all sockets of this page are closed, and new ones fail.

/** @type {Set<WebSocket>} */
const sockets = new Set();
let unplugged = false;

window.WebSocket = class extends WebSocket {
  /** Opens a socket, or closes it at once while the switch is off.
   * @param {string | URL} url @param {string | string[]} [protocols]
   */
  constructor(url, protocols) {
    super(url, protocols);
    sockets.add(this);
    this.addEventListener("close", () => sockets.delete(this));
    if (unplugged) this.close();
  }
};

const plug = byId("plug", HTMLButtonElement);
const plugged = byId("plugged", HTMLElement);
const chat = /** @type {import("./chat-widget.js").HoldlineChat} */ (document.querySelector("holdline-chat"));

plug.addEventListener("click", () => {
  if (unplugged) return;
  unplugged = true;
  plug.setAttribute("aria-disabled", "true");
  plug.textContent = "Unplugged";
  for (const socket of sockets) socket.close();
  plugged.textContent = "Disconnected. The server continues the answer, which will arrive after the connection is restored.";
  setTimeout(() => {
    unplugged = false;
    plug.removeAttribute("aria-disabled");
    plug.textContent = "Pull the plug";
    plugged.textContent = "Plugged in again. Reconnecting…";
    chat.addEventListener("state", connected);
    window.dispatchEvent(new Event("online"));
  }, UNPLUGGED_MS);
});

function connected() {
  if (chat.state !== "open") return;
  chat.removeEventListener("state", connected);
  plugged.textContent = "Plugged in again, and connected. The missed text arrives now, and nothing arrives twice.";
}

byId("reload", HTMLButtonElement).addEventListener("click", () => location.reload());

// The suggestions of the widget, which show the features of the demo.

chat.setAttribute("suggestions", JSON.stringify([
  "Explain slowly how a long answer survives a lost connection",
  "Write a table and some code",
  "Be cut once, and show me a restart",
]));

// A server that requires authentication asks for a token.

function signIn() {
  chat.tokenProvider = keptToken;
}

if (keptToken() !== null) signIn();
chat.addEventListener("error", (event) => {
  if (/** @type {any} */ (event).detail?.code === UNAUTHENTICATED) askForToken(signIn);
});
chat.addEventListener("state", () => chat.state === "open" && hideSignIn());

// Snippets to copy, with the address of this server.

byId("snippet", HTMLElement).textContent = `<script type="module" src="${new URL("widget.js", location.href).href}"></script>
<holdline-chat></holdline-chat>`;
const pinned = byId("pinned", HTMLElement);
const { version, integrity } = pinned.dataset;
pinned.textContent = `<script type="module" crossorigin
  src="${new URL(`web/${version}/widget.js`, location.href).href}"
  integrity="${integrity}"></script>
<holdline-chat></holdline-chat>`;

for (const button of document.querySelectorAll("[data-copies]")) {
  button.addEventListener("click", async () => {
    await copy(byId(/** @type {HTMLElement} */ (button).dataset.copies ?? "", HTMLElement).textContent ?? "");
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 2_000);
  });
}
