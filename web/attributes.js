// @ts-check
/**
 * The attributes of `<holdline-chat>`. Each of them is also a property, except `lang` and `open`. This module performs
 * no I/O.
 */

/** Attributes whose change rebuilds the widget. The conversation is kept. */
export const BUILT = [
  "heading", "greeting", "opening", "suggestions", "placeholder", "server", "conversation", "user", "storage", "mode",
  "attachments", "accept", "lang",
];
const PLAIN = ["model", "instructions", "prompt", "theme", "font"];

const PROPERTIES = [...BUILT.slice(0, -1), ...PLAIN];

/** Turns properties that the page set before the element was defined into attributes. @param {any} element */
export function keepProperties(element) {
  for (const property of [...PROPERTIES, "tokenProvider"].filter((name) => Object.hasOwn(element, name))) {
    const value = element[property];
    delete element[property];
    element[property] = value;
  }
}

/** Adds a property for each attribute to the class of the element. Reading or setting the property reads or sets the
 * attribute.
 * @param {Element} prototype
 */
export function addProperties(prototype) {
  for (const attribute of PROPERTIES) {
    Object.defineProperty(prototype, attribute, {
      configurable: true,
      get() {
        const value = this.getAttribute(attribute);
        return attribute === "suggestions" ? suggestionsOf(value) : value;
      },
      set(value) {
        if ((value ?? false) === false) this.removeAttribute(attribute);
        else this.setAttribute(attribute, Array.isArray(value) ? JSON.stringify(value) : value === true ? "" : value);
      },
    });
  }
}

/** Parses suggestions, written as a JSON list or one per line. @param {string | null} written @returns {string[]} */
export function suggestionsOf(written) {
  if (!written) return [];
  try {
    return JSON.parse(written).map(String);
  } catch {
    // The text is not a JSON list, so it holds one suggestion per line.
  }
  return written.split("\n").map((line) => line.trim()).filter(Boolean);
}
