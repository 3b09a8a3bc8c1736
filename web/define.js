// @ts-check
/** The entry of `/widget.js`: it defines the element, and exports the client for use without the widget. */

import { HoldlineChat } from "./chat-widget.js";

export { HoldlineChat } from "./chat-widget.js";
export { attachPage, HoldlineClient } from "./client.js";

if (!customElements.get("holdline-chat")) customElements.define("holdline-chat", HoldlineChat);
