// @ts-check
/** The words around a conversation, and what is said of the connection. Pure. `words/` has other languages. */

/** @typedef {import("./connection.js").State} State */
/** @typedef {Readonly<Record<keyof typeof ENGLISH, string>>} Words */

/** The name of the model that is no model. */
export const SIMULATION = "holdline-demo";

/** `{name}` stands for a value. `status.js` has those about an answer. */
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
  simulated: "These answers are simulated by Holdline’s demo, not written by a language model.",
  complete: "The answer is complete:",

  connecting: "connecting",
  open: "connected",
  reconnecting: "reconnecting",
  closed: "disconnected",
  bannerConnecting: "Connecting…",
  bannerReconnecting: "Reconnecting. Answers go on being written, and arrive here whole.",
  bannerUnauthenticated: "The server asks for credentials.",
  bannerForbidden: "The server does not let this page in.",
  bannerClosed: "The server ended the connection ({why}). Reload the page.",
  bannerDegraded: "The service has lost its storage for a moment. Answers may be late.",
};

/** @param {string} template @param {{[name: string]: string | number}} values */
export function fill(template, values) {
  return template.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}

/**
 * What the banner says when a connection is missing for longer than a moment.
 * @param {State} state
 * @param {{code: number, reason: string} | null} closed
 * @param {Words} [words]
 */
export function bannerWords(state, closed, words = ENGLISH) {
  switch (state) {
    case "open":
      return "";
    case "connecting":
      return words.bannerConnecting;
    case "reconnecting":
      return words.bannerReconnecting;
    case "closed":
      if (closed?.code === 4401) return words.bannerUnauthenticated;
      if (closed?.code === 4403) return words.bannerForbidden;
      return fill(words.bannerClosed, { why: `${closed?.code}${closed?.reason ? `: ${closed.reason}` : ""}` });
  }
}
