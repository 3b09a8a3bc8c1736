// @ts-check
/** Writes times in a language. */

import { make } from "./dom.js";

/** Returns a function that makes a `<time>` element: the time of a moment today, and otherwise its date too.
 * @param {string} language @returns {(at: number) => HTMLTimeElement}
 */
export function timesIn(language) {
  const [short, long, full] = /** @type {Intl.DateTimeFormatOptions[]} */ ([
    { timeStyle: "short" }, { dateStyle: "medium", timeStyle: "short" }, { dateStyle: "full", timeStyle: "medium" },
  ]).map((options) => formatIn(language, options));
  return (at) => {
    const date = new Date(at);
    const isToday = date.toDateString() === new Date().toDateString();
    const made = make("time", "time", (isToday ? short : long)?.format(date) ?? "");
    made.dateTime = date.toISOString();
    made.title = full?.format(date) ?? "";
    return made;
  };
}

/** Returns a format, in English if the language is invalid. @param {string} language @param {Intl.DateTimeFormatOptions} options */
function formatIn(language, options) {
  try {
    return new Intl.DateTimeFormat(language, options);
  } catch {
    return new Intl.DateTimeFormat("en", options);
  }
}
