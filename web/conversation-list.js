// @ts-check
/** The list of the visitor's conversations: search, rename, delete and export. Loaded when the visitor opens it. */

import sheet from "./conversation-list.css" with { type: "css" };
import { followConversation, markdownOf } from "./conversations.js";
import { button, icon, make, name } from "./dom.js";
import { SIGNS } from "./signs.js";
import { fill } from "./words.js";

/** @typedef {import("./conversations.js").Listed} Listed */
/** @typedef {import("./list-words.js").ListWords} ListWords */

const SEARCH_AFTER_MS = 300;
const EXPORT_DEADLINE_MS = 20_000;
const LONGEST_TITLE = 200;
const PAGE = 100;
const BIN = "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13";
const DOWN = "M12 4v12M7 11l5 5 5-5M5 20h14";
const CROSS = "M6 6l12 12M18 6L6 18";

export class ConversationList {
  element = make("section", "conversations");
  #search = make("input", "search");
  #items = make("ul", "conversation-items");
  #note = make("p", "conversations-note");
  #more;
  /** The rows by conversation. @type {Map<string, Row>} */ #rows = new Map();
  /** @type {any} */ #timer = 0;
  /** The queries whose pages were fetched. @type {Set<string>} */ #fetched = new Set();

  /**
   * Shows the list over the conversation, or beside it if there is room.
   * @param {import("./panel.js").Panel} panel @param {import("./live.js").LiveConversation} live
   * @param {ListWords & import("./words.js").Words} words @param {() => void} close
   */
  constructor(panel, live, words, close) {
    this.panel = panel;
    this.live = live;
    this.words = words;
    this.close = close;
    const root = /** @type {ShadowRoot} */ (panel.element.getRootNode());
    if (!root.adoptedStyleSheets.includes(sheet)) root.adoptedStyleSheets.push(sheet);
    this.#search.type = "search";
    this.#search.placeholder = words.search;
    this.#search.addEventListener("input", () => this.#searched());
    name(this.#search, words.search);
    name(this.element, words.list);
    name(this.#items, words.list);
    this.#note.setAttribute("role", "status");
    this.#more = button("more", words.more, () => void this.#fetch(""), words.more);
    const fresh = button("start-new", words.fresh, () => {
      panel.clear();
      close();
    }, words.fresh);
    const head = make("div", "conversations-head", this.#search, button("action", words.closeList, close, icon(CROSS)));
    this.element.append(head, fresh, this.#note, this.#items, this.#more);
    this.element.addEventListener("keydown", (event) => this.#key(event));
    panel.element.append(this.element);
    this.draw();
    this.#search.focus();
  }

  /** Draws the conversations that match the search, the last changed one first. */
  draw() {
    const query = this.#search.value.trim().toLowerCase();
    const found = this.live.conversations.filter((one) => titleOf(one, "").toLowerCase().includes(query));
    const gone = new Set(this.#rows.keys());
    for (const [index, one] of found.entries()) {
      gone.delete(one.id);
      const row = this.#rows.get(one.id) ?? new Row(this, one);
      this.#rows.set(one.id, row);
      row.draw(one, one.id === this.live.id);
      // Moving a row would take the focus from the field in it.
      if (this.#items.children[index] !== row.element && !row.busy) this.#items.insertBefore(row.element, this.#items.children[index] ?? null);
    }
    for (const id of gone) {
      const row = this.#rows.get(id)?.element;
      if (row?.matches(":focus-within")) this.#search.focus(); // otherwise the keyboard would leave the list
      row?.remove();
      this.#rows.delete(id);
    }
    this.#more.hidden = query !== "" || !this.live.list?.hasMore;
    this.say(found.length > 0 ? "" : query ? this.words.nothingFound : this.words.noConversations);
  }

  /** @param {string} text */
  say(text) {
    if (this.#note.textContent !== text) this.#note.textContent = text;
  }

  /** Runs an action of a row, and shows why it failed. @param {() => Promise<unknown>} run */
  async attempt(run) {
    try {
      await run();
    } catch (error) {
      this.say(fill(this.words.listFailed, { why: /** @type {Error} */ (error).message }));
    }
  }

  /** Shows a conversation. The list stays open beside it if there is room. @param {string} id */
  choose(id) {
    this.live.go(id);
    const covers = this.element.offsetWidth === this.panel.element.clientWidth;
    if (covers) this.close();
    this.panel.composer.field.focus();
  }

  /** Saves a conversation as a Markdown file. @param {Listed} one */
  async export(one) {
    const { live, panel, words } = this;
    const title = titleOf(one, words.untitled);
    const path = one.id === live.id && live.state ? live.shownPath : (await this.#whole(one.id)).path();
    const text = markdownOf(title, path, { you: panel.words.prompt, answer: panel.words.title });
    const link = make("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/markdown" }));
    link.download = `${title.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "") || "conversation"}.md`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1_000);
  }

  /** Returns the state of another conversation once it has arrived. @param {string} id */
  async #whole(id) {
    const { client } = this.live;
    if (!client) throw new Error(this.words.closed);
    const follower = followConversation(client, id);
    try {
      await new Promise((resolve, reject) => {
        follower.addEventListener("change", () => follower.current && resolve(null));
        follower.addEventListener("error", () => reject(new Error(follower.error?.message)));
        setTimeout(() => reject(new Error(this.words.closed)), EXPORT_DEADLINE_MS);
      });
    } finally {
      follower.close();
    }
    return follower.state;
  }

  #searched() {
    this.draw();
    clearTimeout(this.#timer);
    const query = this.#search.value.trim();
    if (query && this.live.list?.hasMore) this.#timer = setTimeout(() => void this.#fetch(query), SEARCH_AFTER_MS);
  }

  /** Fetches further conversations: those that match a query, or the next page. @param {string} query */
  #fetch(query) {
    if (query && this.#fetched.has(query)) return;
    this.#fetched.add(query);
    return this.attempt(async () => {
      const after = query ? "" : this.live.list?.conversations.at(-1)?.id ?? "";
      const page = await this.live.call("GET", `?${new URLSearchParams({ limit: String(PAGE), ...(query && { query }), ...(after && { after }) })}`);
      const { list } = this.live;
      if (list && !query) list.hasMore = page.has_more;
      list?.add(page.data);
    });
  }

  /** Moves the focus between the conversations, and closes the list. @param {KeyboardEvent} event */
  #key(event) {
    if (event.isComposing) return;
    if (event.key === "Escape") {
      event.stopPropagation(); // otherwise Escape would also close a floating widget
      return this.close();
    }
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    const choices = [...this.#items.querySelectorAll("button.choose")];
    const root = /** @type {ShadowRoot} */ (this.element.getRootNode());
    const place = choices.indexOf(/** @type {Element} */ (root.activeElement));
    if (place < 0 && root.activeElement !== this.#search) return;
    event.preventDefault();
    const next = place + step;
    if (next < 0) this.#search.focus();
    else /** @type {HTMLElement | undefined} */ (choices[Math.min(next, choices.length - 1)])?.focus();
  }
}

/** One conversation in the list. */
class Row {
  element = make("li", "conversation-item");
  /** True if the visitor is renaming or deleting the conversation. */ busy = false;
  #title = make("span", "conversation-title");
  #marks = make("span", "conversation-marks");
  #choose;
  /** @type {HTMLElement} */ #actions;

  /** @param {ConversationList} list @param {Listed} one */
  constructor(list, one) {
    this.list = list;
    this.one = one;
    this.#title.dir = "auto";
    this.#choose = button("choose", "", () => list.choose(this.one.id), this.#title, this.#marks);
    this.#choose.removeAttribute("aria-label"); // the text is the accessible name
    this.#actions = make("div", "conversation-actions");
    this.element.append(this.#choose, this.#actions);
  }

  /** @param {Listed} one @param {boolean} shown whether the widget shows this conversation */
  draw(one, shown) {
    const { words } = this.list;
    const title = titleOf(one, words.untitled);
    if (this.#title.textContent !== title || !this.#actions.firstChild) this.#drawActions(title);
    this.one = one;
    this.#title.textContent = title;
    const { unread, running } = one.holdline;
    const marks = [...(running.length > 0 ? ["running"] : []), ...(unread && !shown ? ["unread"] : [])].join(" ");
    if (this.#marks.dataset.marks !== marks) {
      this.#marks.dataset.marks = marks;
      this.#marks.replaceChildren(...marks.split(" ").filter(Boolean).map((mark) => {
        return make("span", `mark ${mark}-mark`, make("span", "unseen", mark === "unread" ? words.unreadMark : words.runningMark));
      }));
    }
    if (shown) this.#choose.setAttribute("aria-current", "true");
    else this.#choose.removeAttribute("aria-current");
  }

  /** @param {string} title */
  #drawActions(title) {
    const { words } = this.list;
    this.#actions.replaceChildren(
      button("action", fill(words.rename, { title }), () => this.#rename(), icon(SIGNS.edit)),
      button("action", fill(words.export, { title }), () => void this.list.attempt(() => this.list.export(this.one)), icon(DOWN)),
      button("action", fill(words.remove, { title }), () => this.#remove(), icon(BIN)),
    );
  }

  /** Shows a form in place of the row, until it is sent or cancelled.
   * @param {HTMLFormElement} form @param {HTMLElement} focused @param {() => Promise<unknown>} run
   */
  #question(form, focused, run) {
    const { words } = this.list;
    const end = () => {
      this.busy = false;
      form.remove();
      this.#choose.hidden = this.#actions.hidden = false;
      this.#choose.focus();
    };
    form.append(button("keep", words.keep, end, words.keep));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      end();
      void this.list.attempt(run);
    });
    form.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      end();
    });
    this.busy = true;
    this.#choose.hidden = this.#actions.hidden = true;
    this.element.append(form);
    focused.focus();
  }

  #rename() {
    const { live, words } = this.list;
    const field = make("input", "new-title");
    field.maxLength = LONGEST_TITLE;
    field.value = titleOf(this.one, "");
    field.required = true;
    name(field, words.newTitle);
    const save = make("button", "save", words.save);
    this.#question(make("form", "conversation-form", field, save), field, () => {
      return live.call("POST", `/${this.one.id}`, { metadata: { ...this.one.metadata, title: field.value.trim() } });
    });
    field.select();
  }

  #remove() {
    const { live, words } = this.list;
    const remove = make("button", "remove", words.removeNow);
    const question = make("p", "question", fill(words.removeQuestion, { title: titleOf(this.one, words.untitled) }));
    this.#question(make("form", "conversation-form", question, remove), remove, () => live.call("DELETE", `/${this.one.id}`));
  }
}

/** @param {Listed} one @param {string} untitled */
const titleOf = ({ metadata }, untitled) => metadata.title || untitled;
