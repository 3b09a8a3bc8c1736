// @ts-check
/** Maps the tokens of `marked` to the tree of elements that are shown. This module performs no I/O. */

/** @typedef {import("./vendor/marked/marked.esm.js").Token} Token */

/** Returns true if a token has a node. Blank lines and link definitions have none. @param {Token} token */
export const isShown = ({ type }) => type !== "space" && type !== "def";

/** Returns true if a token is a block and not just blank lines. @param {Token} token */
export const isBlock = ({ type }) => type !== "space";

/** Returns the properties of a token whose change requires a new element. @param {Token} token */
export function keyOf(token) {
  switch (token.type) {
    case "heading":
      return `heading ${token.depth}`;
    case "list":
      return `list ${token.ordered} ${token.start}`;
    case "code":
      return `code ${token.lang}`;
    case "link":
    case "image":
      return `${token.type} ${token.href} ${token.text}`;
    case "footnote":
    case "note":
      return `${token.type} ${token.label}`;
    case "list_item":
      return `item ${token.loose}`;
    case "row":
      return `row ${token.cells.map((/** @type {Token} */ { align }) => align)}`;
    case "cell":
      return `cell ${token.header} ${token.align}`;
    case "checkbox":
      return `checkbox ${token.checked}`;
    case "text":
      return token.tokens ? "text block" : "text";
  }
  return token.type;
}

/** Returns the tokens inside a token. @param {Token} token @returns {Token[]} */
export function childrenOf(token) {
  switch (token.type) {
    case "list":
      return token.items;
    case "table":
      return [token.header, ...token.rows].map((cells) => ({ type: "row", raw: rawOf(cells), cells }));
    case "row":
      return token.cells.map((/** @type {Token} */ cell) => ({ ...cell, type: "cell", raw: cell.text }));
    case "list_item":
      // In a loose list, lines become paragraphs.
      return (token.tokens ?? []).filter(isShown)
        .map((child) => (token.loose && child.type === "text" ? { ...child, type: "paragraph" } : child));
  }
  return (token.tokens ?? []).filter(isShown);
}

/** Returns the source of the cells of a table row, to detect changes. @param {Token[]} cells */
const rawOf = (cells) => cells.map((cell) => cell.text).join("\u0000");
