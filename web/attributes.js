// @ts-check
/** The attributes of the element, each but `lang` and `open` a property as well. Pure. */

/** A change of one of these rebuilds the widget; the conversation stays. */
export const BUILT = [
  "heading", "greeting", "suggestions", "placeholder", "server", "conversation", "user", "storage", "mode", "lang",
];
const PLAIN = ["model", "instructions", "prompt", "theme", "font"];

const PROPERTIES = [...BUILT.slice(0, -1), ...PLAIN];

/** What a page has set before the element was defined becomes an attribute. @param {any} element */
export function keepProperties(element) {
  for (const property of [...PROPERTIES, "tokenProvider"].filter((name) => Object.hasOwn(element, name))) {
    const value = element[property];
    delete element[property];
    element[property] = value;
  }
}

/** @param {Element} prototype */
export function addProperties(prototype) {
  for (const attribute of PROPERTIES) {
    Object.defineProperty(prototype, attribute, {
      configurable: true,
      get() {
        const value = this.getAttribute(attribute);
        return attribute === "suggestions" ? suggestionsOf(value) : value;
      },
      set(value) {
        if (value === null || value === undefined) this.removeAttribute(attribute);
        else this.setAttribute(attribute, Array.isArray(value) ? JSON.stringify(value) : String(value));
      },
    });
  }
}

/** A JSON list, or one suggestion a line. @param {string | null} written @returns {string[]} */
export function suggestionsOf(written) {
  if (!written) return [];
  try {
    const list = JSON.parse(written);
    if (Array.isArray(list)) return list.map(String);
  } catch {
    // Not JSON, so it is lines.
  }
  return written.split("\n").map((line) => line.trim()).filter((line) => line !== "");
}
