// @ts-check
/** Creates elements. Each class is also a shadow part, so that pages can style it with `::part`. */

/**
 * Makes an element.
 * @template {keyof HTMLElementTagNameMap} Name
 * @param {Name} name
 * @param {string} [kind] the classes and parts, separated by spaces
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[Name]}
 */
export function make(name, kind = "", ...children) {
  const made = document.createElement(name);
  if (kind) {
    made.className = kind;
    made.setAttribute("part", kind);
  }
  made.append(...children);
  return made;
}

/**
 * Makes a button.
 * @param {string} kind the classes and parts
 * @param {string} label the accessible name
 * @param {() => void} run
 * @param {...(Node | string)} children
 */
export function button(kind, label, run, ...children) {
  const made = make("button", kind, ...children);
  made.type = "button";
  name(made, label);
  made.addEventListener("click", run);
  return made;
}

/** Sets the accessible name of an element. @param {Element} element @param {string} label */
export function name(element, label) {
  element.setAttribute("aria-label", label);
}

/** Makes an icon from an SVG path on a 24 by 24 grid. It is hidden from screen readers. @param {string} path */
export function icon(path) {
  const [svg, line] = ["svg", "path"].map((tag) => document.createElementNS("http://www.w3.org/2000/svg", tag));
  svg?.setAttribute("viewBox", "0 0 24 24");
  svg?.setAttribute("aria-hidden", "true");
  line?.setAttribute("d", path);
  svg?.append(/** @type {Element} */ (line));
  return /** @type {SVGElement} */ (svg);
}

/** The SVG paths of the icons. */
export const ICONS = {
  chat: "M4 5h16v11H11l-5 4v-4H4z",
  close: "M6 6l12 12M18 6L6 18",
  fresh: "M12 5v14M5 12h14",
  send: "M12 19V5M5.5 11.5 12 5l6.5 6.5",
  stop: "M7 7h10v10H7z",
};
