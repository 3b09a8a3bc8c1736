// @ts-check
/** Elements by name. A class is also a part, so that whoever may name it here may style it from outside. */

/**
 * @template {keyof HTMLElementTagNameMap} Name
 * @param {Name} name
 * @param {string} [kind] its classes and parts
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
 * @param {string} kind
 * @param {string} label what it is called where its children do not say it
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

/** @param {Element} element @param {string} label */
export function name(element, label) {
  element.setAttribute("aria-label", label);
}

/** A drawing on 24 by 24, which says nothing to who cannot see it. @param {string} path */
export function icon(path) {
  const [svg, line] = ["svg", "path"].map((tag) => document.createElementNS("http://www.w3.org/2000/svg", tag));
  svg?.setAttribute("viewBox", "0 0 24 24");
  svg?.setAttribute("aria-hidden", "true");
  line?.setAttribute("d", path);
  svg?.append(/** @type {Element} */ (line));
  return /** @type {SVGElement} */ (svg);
}

/** What an icon shows. */
export const ICONS = {
  chat: "M4 5h16v11H11l-5 4v-4H4z",
  close: "M6 6l12 12M18 6L6 18",
  fresh: "M12 5v14M5 12h14",
  send: "M12 19V5M5.5 11.5 12 5l6.5 6.5",
  stop: "M7 7h10v10H7z",
};
