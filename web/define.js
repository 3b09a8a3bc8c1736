// @ts-check
/** What `/widget.js` is: the client, and soon the element. */

export { attachPage, HoldlineClient } from "./client.js";
