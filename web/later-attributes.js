// @ts-check
/** The attributes that only the drawn turns need. Like the others, each of them is also a property. */

import { addProperties, keepProperties } from "./attributes.js";

const LATER = ["assistant-name", "user-name", "follow-ups", "attachments", "accept", "feedback"];

/** Adds the properties to an element and its class, and calls a function after each change of an attribute.
 * @param {HTMLElement} host @param {() => void} changed
 */
export function watchLater(host, changed) {
  if (!("assistantName" in host.constructor.prototype)) addProperties(host.constructor.prototype, LATER);
  keepProperties(host, LATER);
  new MutationObserver(changed).observe(host, { attributeFilter: LATER });
}
