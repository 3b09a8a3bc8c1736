// @ts-check
/** Shows a page of the documentation with the Markdown renderer of answers. Unlike an answer, a document may link to
 * other pages. */

import { make } from "./dom.js";
import { Markdown } from "./markdown.js";
import { STATUS } from "./status.js";

const place = /** @type {HTMLElement} */ (document.getElementById("document"));

/** The path of the documents, including any prefix. */
const FOLDER = location.pathname.replace(/\/docs\/.*$/, "/docs/");

/** Returns the fragment identifier of a heading. @param {string} text */
const anchor = (text) => text.toLowerCase().replace(/[^\p{L}\p{N}\s_-]/gu, "").trim().replace(/\s/g, "-");

const extensions = {
  make: {
    link: (/** @type {any} */ { href }) => {
      const url = new URL(href, location.href);
      const own = url.origin === location.origin;
      // Other files of the repository are not served, so links to them become text.
      if (own && !url.pathname.startsWith(FOLDER)) return { node: make("span") };
      if (own) url.pathname = url.pathname.replace(/\.md$/, "");
      const link = make("a");
      link.href = url.href;
      return { node: link };
    },
    image: (/** @type {any} */ { href, text }) => {
      const image = make("img");
      image.src = new URL(href, location.href).href;
      image.alt = text;
      return { node: image, update: () => {} };
    },
    heading: (/** @type {any} */ { depth, text }) => {
      const heading = make(/** @type {"h1"} */ (`h${depth}`));
      heading.id = anchor(text);
      return { node: heading };
    },
  },
};

function shown() {
  document.title = `${place.querySelector("h1")?.textContent ?? "Docs"} · Holdline`;
  place.removeAttribute("aria-busy");
  if (location.hash) document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
}

const response = await fetch(`${location.pathname}.md`);
if (response.ok) {
  const markdown = new Markdown(place, STATUS, extensions);
  markdown.onshown = shown;
  markdown.show(await response.text(), true);
} else {
  place.append(make("p", "", "This document does not exist."));
  shown();
}
