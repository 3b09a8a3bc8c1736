// @ts-check
/** The button in the head of the widget that shows the list of conversations. */

import { button, icon, name } from "./dom.js";
import { LIST } from "./list-words.js";
import { load } from "./place.js";

const MENU = "M4 7h16M4 12h16M4 17h10";

export class ListButton {
  /** @type {import("./conversation-list.js").ConversationList | null} */ #list = null;
  #words;
  #button;

  /** Adds the button, which is hidden while no user is signed in. @param {import("./panel.js").Panel} panel */
  constructor(panel) {
    this.panel = panel;
    this.#words = { ...LIST, ...panel.words };
    this.#button = button("action list-button", this.#words.list, () => void this.#toggle(), icon(MENU));
    this.#button.setAttribute("aria-expanded", "false");
    panel.element.firstElementChild?.prepend(this.#button);
    const draw = panel.thread.changed;
    panel.thread.changed = () => {
      draw();
      this.#draw();
    };
    panel.thread.addEventListener("state", () => this.#draw());
    this.#draw();
  }

  /** @returns {import("./live.js").LiveConversation | null} */
  get #live() {
    const { conversation } = this.panel.thread;
    return conversation.attach ? /** @type {any} */ (conversation) : null;
  }

  #draw() {
    const live = this.#live;
    this.#button.hidden = !live?.list;
    const unread = live?.conversations.some(({ id, holdline }) => holdline.unread && id !== live.id) ?? false;
    this.#button.classList.toggle("has-unread", unread);
    name(this.#button, unread ? this.#words.listUnread : this.#words.list);
    if (this.#list && this.#list.live !== live) this.#close();
    this.#list?.draw();
  }

  async #toggle() {
    if (this.#list) return this.#close();
    const module = await load("conversation-list.js").catch(() => null); // the visitor can press the button again
    const live = this.#live;
    if (!module || !live || this.#list) return;
    this.#list = new module.ConversationList(this.panel, live, this.#words, () => {
      this.#close();
      this.#button.focus();
    });
    live.list?.addEventListener("change", () => this.#draw());
    this.#button.setAttribute("aria-expanded", "true");
  }

  #close() {
    this.#list?.element.remove();
    this.#list = null;
    this.#button.setAttribute("aria-expanded", "false");
  }
}
