// @ts-check
/** What `/widget.js` is: the element, defined, and the client for who wants that alone. */

import { HoldlineChat } from "./chat-widget.js";

export { HoldlineChat } from "./chat-widget.js";
export { attachPage, HoldlineClient } from "./client.js";

if (!customElements.get("holdline-chat")) customElements.define("holdline-chat", HoldlineChat);
