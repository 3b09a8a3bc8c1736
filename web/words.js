// @ts-check
/**
 * The texts of the widget, except those about answers. This module performs no I/O. `words/` contains the translations.
 */

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
  latest: "Latest",

  connecting: "connecting",
  open: "connected",
  reconnecting: "reconnecting",
  closed: "disconnected",
};

/** Fills the placeholders of a text. @param {string} template @param {{[name: string]: string | number}} values */
export function fill(template, values) {
  return template.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}
