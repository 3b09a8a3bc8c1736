// @ts-check
/** A link of an answer: it opens elsewhere, tells nobody where it was, and says where it leads. */

import { make } from "./dom.js";
import { address, destination } from "./links.js";

/**
 * A link, or for an address that is not to be followed a piece of text; its text goes into `body`.
 * @param {string} href
 * @param {string} text what it will show
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
