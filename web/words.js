// @ts-check
/** The texts of the widget, except those about answers. `words/` contains the translations. */

import { load } from "./place.js";

/** @typedef {Readonly<Record<keyof typeof ENGLISH, string>>} Words */

/** The English texts. `{name}` is a placeholder. The texts about answers are in `status.js`. */
export const ENGLISH = {
  direction: "ltr",
  title: "Assistant",
  greeting: "How can I help?",
  placeholder: "Ask…",
  prompt: "Your prompt",
  conversation: "Conversation",
  openChat: "Open the chat",
  unread: "Open the chat, {count} unread",
  closeChat: "Close the chat",
  fresh: "New conversation",
  send: "Send",
  stop: "Stop the answer",

  connecting: "connecting",
  open: "connected",
  reconnecting: "reconnecting",
  closed: "disconnected",
};

/** Fills the placeholders of a text. @param {string} template @param {{[name: string]: string | number}} values */
export function fill(template, values) {
  return template.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}

const TRANSLATED = ["ar", "de"];

/** Returns the texts in a language, or none if there is no translation. @param {string} language @returns {Promise<object>} */
export async function wordsOf(language) {
  const short = language.toLowerCase().split("-")[0] ?? "";
  if (!TRANSLATED.includes(short)) return {};
  try {
    return (await load(`words/${short}.js`)).WORDS;
  } catch {
    return {}; // falls back to English
  }
}
