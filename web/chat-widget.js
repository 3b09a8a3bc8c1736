// @ts-check
/**
 * `<holdline-chat>`: an assistant for any page, inline or floating with a launcher. See `docs/widget.md` for its reference.
 *
 * The element reads the attributes, opens and closes the panel, and dispatches events to the page. `thread.js` holds the
 * conversation, and `panel.js` draws it.
 */

import sheet from "./chat-widget.css" with { type: "css" };
import { addProperties, BUILT, keepProperties, suggestionsOf } from "./attributes.js";
import { Conversation, storageOf } from "./conversation.js";
import { button, icon, ICONS, make, name } from "./dom.js";
import { Panel, slot } from "./panel.js";
import { HOME, load } from "./place.js";
import { Thread } from "./thread.js";
import { ENGLISH, fill, wordsOf } from "./words.js";

/** @typedef {import("./conversation.js").Turn} Turn */
/** @typedef {import("./words.js").Words} Words */
/** @typedef {() => Promise<string | null> | string | null} TokenProvider returns null while no user is signed in */

/** How long the widget waits for a connection before it asks the server whether this origin is allowed. */
const REFUSED_AFTER_MS = 1_500;
/** The delay before a failed module is loaded again. */
const RELOAD_MS = 2_000;

export class HoldlineChat extends HTMLElement {
  static observedAttributes = [...BUILT, "open"];

  // The page may have set these properties before the element was defined.
  /** Fields to add to each request, for example `{temperature: 0}`. @type {object} */
  request = /** @type {any} */ (this).request ?? {};
  /** Texts that replace those of the widget. @type {Partial<Words>} */
  words = /** @type {any} */ (this).words ?? {};
  /** Tools for each request. A function of the page has `run`, which JSON leaves out. @type {import("./replier.js").PageTool[] | undefined} */
  tools = /** @type {any} */ (this).tools;
  /** The files that the page has attached, until `attachments.js` takes them. @type {File[]} */
  given = [];

  /** @type {Thread | null} */ #thread = null;
  /** @type {Panel | null} */ #panel = null;
  #badge = make("span", "badge");
  #launcher = button("launcher", "", () => this.open(), slot("launcher", icon(ICONS.chat)), this.#badge);
  #root = this.attachShadow({ mode: "open" });
  /** @type {Words} */ #words = ENGLISH;
  /** The module that draws turns, loaded when the page is idle. @type {typeof import("./turns.js") | null} */ #drawer = null;
  /** Undefined on a page that uses no tokens, and null after `logout`. @type {TokenProvider | null | undefined} */ #provider;
  /** @type {import("./connection.js").State} */ #state = "connecting";
  #storage = storageOf("none");
  #loading = false;
  #unread = 0;
  #built = 0;
  /** Removes the event listeners on the page. */ #leave = new AbortController();

  constructor() {
    super();
    this.#root.adoptedStyleSheets = [sheet];
  }

  connectedCallback() {
    keepProperties(this);
    this.#leave = new AbortController();
    const { signal } = this.#leave;
    addEventListener("storage", (event) => event.key === this.#thread?.conversation.name && this.#thread.sync(event), { signal });
    addEventListener("pageshow", (event) => event.persisted && this.#thread?.sync(), { signal });
    window.visualViewport?.addEventListener("resize", () => this.#fit(), { signal });
    this.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || event.isComposing || !this.#floats || !this.isOpen) return;
      event.stopPropagation();
      this.close();
    }, { signal });
    this.#build();
  }

  disconnectedCallback() {
    this.#leave.abort();
    this.#built += 1;
    this.#thread?.end();
    this.#thread = null;
  }

  /** Opens or closes the panel, or builds the widget again, after an attribute has changed.
   * @param {string} attribute @param {string | null} before @param {string | null} now
   */
  attributeChangedCallback(attribute, before, now) {
    if (before === now || !this.isConnected) return;
    if (attribute === "open") this.#showOpen();
    else if (this.#built > 0) this.#build();
  }

  // The public interface.

  open() {
    if (this.isOpen) return this.#panel?.composer.field.focus();
    this.toggleAttribute("open", true);
    this.#panel?.composer.field.focus();
    this.#dispatch("open");
  }

  close() {
    if (!this.isOpen) return;
    this.toggleAttribute("open", false);
    this.#launcher.focus();
    this.#dispatch("close");
  }

  /** Sends a prompt. Returns false, without sending it, while an answer is being generated. @param {string} text @returns {boolean} */
  send(text) {
    return text.trim() !== "" && !!this.#thread?.ask(text.trim());
  }

  /** Attaches images and files to the prompt that the visitor writes. @param {Iterable<File>} files */
  attach(files) {
    this.given.push(...files);
    this.#panel?.composer.tray?.draw();
  }

  stop() {
    this.#thread?.stop();
  }

  clear() {
    this.#thread?.clear();
  }

  /** Deletes the conversation and discards the token of the current user. */
  logout() {
    this.clear();
    this.#provider &&= null;
    this.removeAttribute("user");
    this.#build();
    this.#dispatch("logout");
  }

  /** The function that returns a fresh token. The widget calls it whenever it needs a token. */
  get tokenProvider() {
    return this.#provider ?? null;
  }

  set tokenProvider(provider) {
    this.#provider = provider;
    this.#identify();
  }

  get isOpen() {
    return !this.#floats || this.hasAttribute("open");
  }

  /** The state in the last `state` event: `connecting` before the first one. */
  get state() {
    return this.#state;
  }

  /** The turns of the conversation, oldest first. */
  get turns() {
    return (this.#thread?.conversation.turns ?? []).map(outline);
  }

  // Private members.

  get #floats() {
    return this.getAttribute("mode") === "floating";
  }

  /** The URL of the server. */
  get #server() {
    return new URL(this.getAttribute("server") ?? HOME, location.href);
  }

  /** The prefix of the storage key of a conversation. The owner is appended to it. */
  get #place() {
    const named = ["conversation", "user"].map((name) => this.getAttribute(name) ?? "");
    return JSON.stringify(["holdline", this.#server.href, ...named]);
  }

  get #language() {
    return this.getAttribute("lang") ?? this.closest("[lang]")?.getAttribute("lang") ?? "en";
  }

  /**
   * Determines the owner of the conversation by fetching a token, but only if the thread has started or a conversation
   * is stored.
   */
  #identify() {
    const thread = this.#thread;
    if (thread?.begun) void thread.renew();
    else if (this.isOpen) thread?.start();
    else if (Object.keys(this.#storage).some((name) => name.startsWith(this.#place))) void thread?.renew();
  }

  async #build() {
    const build = ++this.#built;
    this.#thread?.end();
    this.#thread = this.#panel = null;
    this.#root.replaceChildren(this.#launcher); // the current content may belong to another user
    const words = { ...ENGLISH, ...await wordsOf(this.#language), ...this.words };
    const live = this.hasAttribute("conversations") && await load("live.js").catch(() => null);
    if (build !== this.#built) return; // an attribute has changed in the meantime, or the element was removed
    if (live === null) return void setTimeout(() => build === this.#built && this.#build(), RELOAD_MS);
    this.#words = words;
    const storage = this.#storage = storageOf(this.getAttribute("storage") ?? "local");
    const place = this.#place;
    const opening = this.getAttribute("opening");
    const thread = this.#thread = new Thread({
      url: new URL("v1/responses", this.#server).href,
      owner: this.#provider ? null : "",
      conversation: (owner) => {
        const kept = new Conversation(owner === null ? storageOf("none") : storage, place + owner, opening);
        return live ? live.conversationOf(kept, owner, this.#server, this, words) : kept;
      },
      note: (handle, state) => this.#drawer?.noteOf(handle, state, this.#words) ?? "",
      aside: ({ answer }) => this.#drawer?.asideOf(answer) ?? null,
      more: () => this.#more(),
      token: () => this.#provider && this.#provider(),
      page: window,
    });
    this.#panel = new Panel(thread, words, () => this.#loadDrawer(), {
      host: this,
      title: this.getAttribute("heading") ?? words.title,
      greeting: opening ?? this.getAttribute("greeting") ?? words.greeting,
      placeholder: this.getAttribute("placeholder") ?? words.placeholder,
      suggestions: suggestionsOf(this.getAttribute("suggestions")),
      close: () => this.close(),
    });
    live && live.addList(this.#panel);
    thread.addEventListener("message", (event) => this.#dispatch("message", turnOf(event)));
    thread.addEventListener("answer", (event) => this.#answered(turnOf(event)));
    thread.addEventListener("state", () => this.#stateChanged(thread));
    for (const type of ["left", "read"]) thread.addEventListener(type, () => {
      this.#unread = 0;
      this.#showOpen();
    });
    if (!this.hasAttribute("dir") && words.direction === "rtl") this.#panel.element.dir = "rtl";
    this.#panel.element.setAttribute("role", this.#floats ? "dialog" : "region");
    this.#root.replaceChildren(this.#panel.element, this.#launcher);
    if (this.#drawer) this.#panel.arrived();
    this.#showOpen();
    if (thread.unfinished) thread.start();
    else if (this.#provider && !this.isOpen) this.#identify();
  }

  /** Returns the module that draws turns, or loads it, and retries until it succeeds. */
  #loadDrawer() {
    if (this.#loading) return this.#drawer;
    this.#loading = true;
    load("turns.js").then((drawer) => {
      this.#drawer = drawer;
      this.#root.adoptedStyleSheets.push(drawer.answerSheet);
      this.#panel?.arrived();
      this.#fit();
      idle(drawer.rehearse);
    }).catch(() => setTimeout(() => {
      this.#loading = false;
      this.#panel?.draw();
    }, RELOAD_MS));
    return null;
  }

  /** Returns the fields that each request has in addition to the prompt. */
  #more() {
    const [model, instructions, id] = ["model", "instructions", "prompt"].map((name) => this.getAttribute(name));
    return {
      ...(model && { model }), ...(instructions && { instructions }), ...(id && { prompt: { id } }),
      ...this.request, ...(this.tools && { tools: this.tools }),
    };
  }

  /** Shows or hides the panel. The widget connects once it is first opened; before that, it has no socket. */
  #showOpen() {
    const open = this.isOpen;
    if (this.#panel) this.#panel.element.hidden = !open;
    this.#launcher.hidden = open || !this.#floats;
    if (open) {
      this.#unread = 0;
      this.#thread?.start();
      this.#panel?.draw();
      idle(() => this.#loadDrawer());
    }
    this.#badge.textContent = String(this.#unread || "");
    this.#badge.hidden = !this.#unread;
    name(this.#launcher, fill(this.#unread ? this.#words.unread : this.#words.openChat, { count: this.#unread }));
    this.#fit();
  }

  #fit() {
    if (this.#panel) this.#drawer?.fit(this.#panel.element, this.#floats && this.isOpen);
  }

  /** Counts an answer as unread while the panel is closed, and dispatches the events for its end.
   * @param {{status: string}} turn
   */
  #answered(turn) {
    if (!this.isOpen) {
      this.#unread += 1;
      this.#showOpen();
    }
    this.#dispatch("answer", turn);
    if (turn.status === "failed") this.#dispatch("error", turn);
  }

  /** Dispatches the state of the connection. If no connection is established, asks the server whether it refuses this
   * origin.
   * @param {Thread} thread
   */
  #stateChanged(thread) {
    if (thread !== this.#thread) return;
    const { closed, state } = thread;
    this.#state = state;
    this.#dispatch("state", { state });
    // The code 1000 means that the widget itself has closed the connection.
    if (closed && closed.code !== 1000) this.#dispatch("error", { status: "closed", ...closed });
    if (state === "connecting") setTimeout(async () => {
      if (thread.state !== "connecting" || thread !== this.#thread) return;
      const reason = await (this.#drawer ?? await load("turns.js")).refusal(this.#server);
      if (!reason || thread !== this.#thread) return;
      thread.end();
      this.#panel?.refuse();
      this.#dispatch("error", { status: "refused", reason });
    }, REFUSED_AFTER_MS);
  }

  /** Dispatches an event of the widget. @param {string} name @param {object} [detail] */
  #dispatch(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

addProperties(HoldlineChat.prototype);

/** Returns the public fields of a turn. @param {Turn} turn */
const outline = ({ prompt, text, status, responseId }) => ({ prompt, text, status, responseId });

/** Returns the public fields of the turn that an event carries. @param {Event} event */
const turnOf = (event) => outline(/** @type {CustomEvent<Turn>} */ (event).detail);

/** Runs a function once the page is idle. @param {() => void} run */
function idle(run) {
  if ("requestIdleCallback" in globalThis) requestIdleCallback(run, { timeout: 1_000 });
  else setTimeout(run, 50);
}
