// @ts-check
/**
 * Converts TeX to MathML. KaTeX parses the formula; this module creates the nodes by name, from elements and attributes of
 * MathML Core, so a formula cannot create any others. Loaded with the first formula in view.
 */

import { __renderToDomTree } from "./vendor/katex/katex.mjs";

/** @typedef {import("./vendor/katex/katex.mjs").Tree} Tree */

const MATHML = "http://www.w3.org/1998/Math/MathML";
/** The maximum number of macro expansions in a formula; KaTeX's own macros, such as `\iff`, count too. */
const MAX_EXPANSIONS = 1_000;
/** The maximum number of elements in a formula, and their maximum depth: layout time grows faster than linearly with depth. */
const MAX_ELEMENTS = 5_000;
const MAX_DEPTH = 100;
const MAX_TABLES = 6;
/** The maximum length in a formula, for each unit. @type {Readonly<Record<string, number>>} */
const MAX_LENGTHS = { em: 10, ex: 20, pt: 100, px: 150 };
/** The colour in which KaTeX shows untrusted commands: links, images, classes. */
const UNTRUSTED = "#f0f1f2";

const ELEMENTS = new Set((
  "annotation math menclose mfrac mi mn mo mover mpadded mphantom mroot mrow mspace msqrt mstyle msub msubsup msup " +
  "mtable mtd mtext mtr munder munderover semantics"
).split(" "));
const ATTRIBUTES = new Set((
  "accent accentunder display displaystyle encoding fence largeop mathsize scriptlevel separator stretchy"
).split(" "));
const LENGTHS = new Set("depth height linethickness lspace maxsize minsize rspace voffset width".split(" "));

/** Commands that define macros are refused: a macro could grow to any size, and would be unknown in other formulas. */
const DEFINITIONS = new Set((
  "def edef gdef xdef let futurelet global long newcommand renewcommand providecommand"
).split(" "));
const COMMAND = /\\([a-zA-Z@]+|[^])/g;

class Refused extends Error {}

const refuse = () => {
  throw new Refused();
};

/**
 * Converts a formula to MathML. Throws KaTeX's error for invalid TeX, and Refused for a formula that is not allowed.
 * @param {string} tex
 * @param {boolean} display whether it is a display formula
 * @returns {Element} a `math` element
 */
export function typeset(tex, display) {
  for (const [, name = ""] of tex.matchAll(COMMAND)) if (DEFINITIONS.has(name)) refuse();
  const span = __renderToDomTree(tex, {
    output: "mathml", displayMode: display, throwOnError: true, errorColor: UNTRUSTED, trust: false, strict: "ignore",
    maxSize: MAX_LENGTHS.em, maxExpand: MAX_EXPANSIONS,
  });
  return new Builder(/\\tag\b/.test(tex)).element(/** @type {Tree} */ (span.children?.[0]), 0, 0);
}

class Builder {
  #elements = 0;

  /** Creates a builder for one formula.
   * @param {boolean} tagged whether a table row may have a tag, which KaTeX omits from its MathML
   */
  constructor(tagged) {
    this.tagged = tagged;
  }

  /** Creates the MathML element of a node of KaTeX's tree and of the nodes in it. Throws if a limit is exceeded.
   * @param {Tree} tree @param {number} depth @param {number} tables @returns {Element}
   */
  element(tree, depth, tables) {
    const { type = "", attributes = {} } = tree;
    this.#elements += 1;
    const inside = tables + Number(type === "mtable");
    if (!ELEMENTS.has(type) || this.#elements > MAX_ELEMENTS || depth > MAX_DEPTH || inside > MAX_TABLES) refuse();
    const made = /** @type {MathMLElement} */ (document.createElementNS(MATHML, type === "menclose" ? "mrow" : type));
    for (const [name, value] of Object.entries(attributes)) {
      if (ATTRIBUTES.has(name) || (LENGTHS.has(name) && isLength(value))) made.setAttribute(name, value);
    }
    this.#append(made, this.#childrenOf(tree), depth, inside);
    if (attributes.mathvariant) vary(made, attributes.mathvariant);
    paint(made, attributes);
    if (type === "menclose") enclose(made, attributes.notation ?? "");
    if (type === "mtable") layOut(made, attributes);
    return made;
  }

  /** Returns the children of a node, without the cells that KaTeX adds to table rows for tags.
   * @param {Tree} tree @returns {Tree[]}
   */
  #childrenOf({ children = [], type }) {
    if (type !== "mtr") return children;
    const added = (/** @type {Tree} */ { classes }) => classes?.includes("mtr-glue") || classes?.includes("mml-eqn-num");
    if (this.tagged && children.some(added)) refuse();
    return children.filter((cell) => !added(cell));
  }

  /** Creates the elements of child trees, and appends them to the parent.
   * @param {Element} parent @param {Tree[]} children @param {number} depth @param {number} tables
   */
  #append(parent, children, depth, tables) {
    for (const child of children) {
      if (child.type !== undefined) parent.append(this.element(child, depth + 1, tables));
      else if (child.children) this.#append(parent, child.children, depth, tables);
      else if (child.text !== undefined) parent.append(child.text);
      else parent.append(space(child.width ?? 0));
    }
    parent.normalize(); // a screen reader reads each text node separately
  }
}

/** Creates a horizontal space. @param {number} width in em; browsers ignore negative widths */
function space(width) {
  const made = document.createElementNS(MATHML, "mspace");
  made.setAttribute("width", `${Math.min(Math.max(width, 0), MAX_LENGTHS.em ?? 0)}em`);
  return made;
}

/** Returns true if an attribute value is a length within the limits. @param {string} value */
function isLength(value) {
  const [, number, unit = ""] = /^(-?\d*\.?\d+)([a-z]{0,2})$/.exec(value) ?? [];
  return number !== undefined && (Number(number) === 0 || Math.abs(Number(number)) <= (MAX_LENGTHS[unit] ?? -1));
}

/** Sets colours, mixed with the text colour to stay visible on light and dark backgrounds.
 * @param {MathMLElement} element @param {{[name: string]: string}} attributes
 */
function paint({ style }, { mathcolor, mathbackground, style: border = "" }) {
  if (mathcolor === UNTRUSTED) refuse();
  if (mathcolor) style.color = `color-mix(in oklab, ${mathcolor} 65%, currentcolor)`;
  if (mathbackground) style.backgroundColor = `color-mix(in oklab, ${mathbackground} 30%, transparent)`;
  const framed = border.startsWith("border");
  if (framed) style.border = "1px solid";
  if (mathbackground || framed) style.padding = "0.15em 0.3em";
}

/** Styles for notations that have no element in MathML Core. @type {Readonly<Record<string, Partial<CSSStyleDeclaration>>>} */
const ENCLOSURES = {
  box: { border: "1px solid", padding: "0.25em 0.35em" },
  top: { borderTop: "1px solid" },
  bottom: { borderBottom: "1px solid" },
  left: { borderLeft: "1px solid" },
  right: { borderRight: "1px solid" },
  actuarial: { borderTop: "1px solid", borderRight: "1px solid", padding: "0.1em 0.1em 0" },
  phasorangle: { borderBottom: "1px solid", borderLeft: "1px solid", padding: "0 0.2em 0.1em" },
};
/** @type {Readonly<Record<string, string>>} */
const STRIKES = { updiagonalstrike: "to top left", downdiagonalstrike: "to top right", horizontalstrike: "to bottom" };
/** KaTeX swaps the names of a table's edges. This maps each name to the actual edge. @type {Readonly<Record<string, string>>} */
const EDGES = { top: "left", bottom: "right", left: "top", right: "bottom" };

/** Draws the lines of an enclosure, which MathML Core leaves to CSS.
 * @param {MathMLElement} element @param {string} notation
 */
function enclose(element, notation) {
  const lines = [];
  for (const name of notation.split(" ")) {
    Object.assign(element.style, ENCLOSURES[EDGES[name] ?? name]);
    const line = "transparent calc(50% - 0.6px), currentcolor calc(50% - 0.6px) calc(50% + 0.6px), transparent calc(50% + 0.6px)";
    if (STRIKES[name]) lines.push(`linear-gradient(${STRIKES[name]}, ${line})`);
  }
  if (lines.length > 0) element.style.backgroundImage = lines.join(", ");
}

const CELL_EM = 0.1;

/** Sets the alignment, the gaps and the lines of a table's columns, which MathML Core leaves to CSS.
 * @param {MathMLElement} table @param {{[name: string]: string}} attributes
 */
function layOut(table, attributes) {
  const list = (/** @type {string} */ name) => attributes[name]?.split(" ") ?? [];
  const nth = (/** @type {string[]} */ values, /** @type {number} */ index) => values[index] ?? values.at(-1) ?? "";
  const [aligns, gaps, columns, rows] = ["columnalign", "columnspacing", "columnlines", "rowlines"].map(list);
  const half = (/** @type {number} */ index) => `${(Number.parseFloat(nth(gaps ?? [], index)) || 0) / 2}em`;
  const whole = attributes.width === "100%"; // a formula with a tag
  if (whole) table.style.width = "100%";
  const block = `${CELL_EM + (Number.parseFloat(attributes.rowspacing ?? "") || 0) / 2}em`;
  for (const [down, row] of [...table.children].entries()) {
    for (const [across, cell] of /** @type {MathMLElement[]} */ ([...row.children]).entries()) {
      const { style } = cell;
      style.textAlign = nth(aligns ?? [], across);
      style.padding = `${block} ${across < row.children.length - 1 ? half(across) : 0} ${block} ${across > 0 ? half(across - 1) : 0}`;
      if (whole && !cell.hasChildNodes()) style.width = "50%";
      if (across > 0) style.borderLeft = lineOf(columns?.[across - 1]);
      if (down > 0) style.borderTop = lineOf(rows?.[down - 1]);
    }
  }
}

/** Returns the CSS border for a line of a table, or an empty string if there is none. @param {string | undefined} kind */
const lineOf = (kind) => (kind === "solid" || kind === "dashed" ? `1px ${kind}` : "");

/** The first code points for A to Z and a to z, 0 to 9, Α to Ω, and α to ω. @type {Readonly<Record<string, [number, number, number, number]>>} */
const ALPHABETS = {
  bold: [0x1d400, 0x1d7ce, 0x1d6a8, 0x1d6c2],
  italic: [0x1d434, 0, 0x1d6e2, 0x1d6fc],
  "bold-italic": [0x1d468, 0, 0x1d71c, 0x1d736],
  script: [0x1d49c, 0, 0, 0],
  fraktur: [0x1d504, 0, 0, 0],
  "bold-fraktur": [0x1d56c, 0, 0, 0],
  "double-struck": [0x1d538, 0x1d7d8, 0, 0],
  "sans-serif": [0x1d5a0, 0x1d7e2, 0, 0],
  "bold-sans-serif": [0x1d5d4, 0x1d7ec, 0x1d756, 0x1d770],
  "sans-serif-italic": [0x1d608, 0, 0, 0],
  "sans-serif-bold-italic": [0x1d63c, 0, 0x1d790, 0x1d7aa],
  monospace: [0x1d670, 0x1d7f6, 0, 0],
};
/** Letters that already had code points elsewhere in Unicode. @type {Readonly<Record<string, string>>} */
const ELSEWHERE = {
  scriptB: "ℬ", scriptE: "ℰ", scriptF: "ℱ", scriptH: "ℋ", scriptI: "ℐ", scriptL: "ℒ", scriptM: "ℳ", scriptR: "ℛ", scripte: "ℯ",
  scriptg: "ℊ", scripto: "ℴ", frakturC: "ℭ", frakturH: "ℌ", frakturI: "ℑ", frakturR: "ℜ", frakturZ: "ℨ", italich: "ℎ",
  "double-struckC": "ℂ", "double-struckH": "ℍ", "double-struckN": "ℕ", "double-struckP": "ℙ", "double-struckQ": "ℚ",
  "double-struckR": "ℝ", "double-struckZ": "ℤ",
};

/** Maps text to the Unicode characters of an alphabet, the only form that MathML Core supports. @param {string} text @param {string} variant */
export function inAlphabet(text, variant) {
  const [letters, digits, capitals, small] = ALPHABETS[variant] ?? [0, 0, 0, 0];
  return [...text].map((character) => {
    const at = (/** @type {number} */ first, /** @type {string} */ from) =>
      String.fromCodePoint(first + (character.codePointAt(0) ?? 0) - (from.codePointAt(0) ?? 0));
    const before = ELSEWHERE[variant + character];
    if (before) return before;
    if (letters && character >= "A" && character <= "Z") return at(letters, "A");
    if (letters && character >= "a" && character <= "z") return at(letters + 26, "a");
    if (digits && character >= "0" && character <= "9") return at(digits, "0");
    if (capitals && character >= "Α" && character <= "Ω") return at(capitals, "Α");
    if (small && character >= "α" && character <= "ω") return at(small, "α");
    return character;
  }).join("");
}

/** Applies a font variant. MathML Core only knows `normal`, so letters are replaced or styled.
 * @param {MathMLElement} element @param {string} variant
 */
function vary(element, variant) {
  if (variant === "normal") element.setAttribute("mathvariant", variant);
  else if (element.localName !== "mtext") element.textContent = inAlphabet(element.textContent ?? "", variant);
  else {
    const { style } = element; // words keep plain letters, so that search and screen readers work
    if (variant.includes("bold")) style.fontWeight = "bold";
    if (variant.includes("italic")) style.fontStyle = "italic";
    if (variant.includes("sans")) style.fontFamily = "sans-serif";
    if (variant === "monospace") style.fontFamily = "monospace";
  }
}
