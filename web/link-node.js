// @ts-check
/** Makes the links of answers: they open in a new tab, send no referrer, and show their destination. */

import { make } from "./dom.js";
import { address, destination } from "./links.js";

/**
 * Makes a link, or plain text if its address is not allowed. The caller adds the text to `body`.
 * @param {string} href
 * @param {string} text the text that the link will show
 * @returns {{node: HTMLElement, body: HTMLElement}}
 */
export function linkTo(href, text) {
  const url = address(href);
  if (url === null) {
    const plain = make("span", "no-link");
    return { node: plain, body: plain };
  }
  const link = make("a", "link");
  link.href = url.href;
  link.target = "_blank";
  link.rel = "noopener noreferrer nofollow";
  link.referrerPolicy = "no-referrer";
  const place = destination(url, text);
  if (place === "") return { node: link, body: link };
  const body = make("span", "link-text");
  link.append(body, make("span", "link-host", ` (${place})`));
  return { node: link, body };
}
