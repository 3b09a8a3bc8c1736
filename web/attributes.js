// @ts-check
/**
 * The attributes of `<holdline-chat>`. Each of them is also a property, except `lang` and `open`. This module performs
 * no I/O.
 */

/** Attributes whose change rebuilds the widget. The conversation is kept. */
export const BUILT = [
  "heading", "greeting", "opening", "suggestions", "placeholder", "server", "conversation", "user", "storage", "mode",
  "conversations", "lang",
];
const PLAIN = ["model", "instructions", "prompt", "theme", "font"];

const PROPERTIES = [...BUILT.slice(0, -1), ...PLAIN];

/** Turns properties that the page set before the element was defined into attributes.
 * @param {any} element @param {string[]} [attributes]
 */
export function keepProperties(element, attributes = [...PROPERTIES, "tokenProvider"]) {
  for (const property of attributes.map(propertyOf).filter((name) => Object.hasOwn(element, name))) {
    const value = element[property];
    delete element[property];
    element[property] = value;
  }
}

/** Adds a property for each attribute to the class of the element. Reading or setting the property reads or sets the
 * attribute.
 * @param {Element} prototype @param {string[]} [attributes]
 */
export function addProperties(prototype, attributes = PROPERTIES) {
  for (const attribute of attributes) {
    Object.defineProperty(prototype, propertyOf(attribute), {
      configurable: true,
      get() {
        const value = this.getAttribute(attribute);
        return /sugg|ups/.test(attribute) ? suggestionsOf(value) : value;
      },
      set(value) {
        if ((value ?? false) === false) this.removeAttribute(attribute);
        else this.setAttribute(attribute, Array.isArray(value) ? JSON.stringify(value) : value === true ? "" : value);
      },
    });
  }
}

/** Returns the name of the property for an attribute: `userName` for `user-name`. @param {string} attribute */
const propertyOf = (attribute) => attribute.replace(/-(.)/g, (_, letter) => letter.toUpperCase());

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
