// @ts-check
/** What the page says about an answer and about the connection, in plain words. Pure. */

/** @typedef {import("./answer.js").Answer} Answer */
/** @typedef {import("./answer.js").Failure} Failure */
/** @typedef {import("./connection.js").State} State */

/** The name of the model that is no model. */
export const SIMULATION = "holdline-demo";

/**
 * The line under an answer: what it is waiting for, or how it ended.
 * @param {{answer: Answer, stopping: boolean, busy: boolean, verified: boolean | null, request: object | null}} handle
 * @param {State} state of the connection, as far as it is worth a word
 */
export function statusWords(handle, state) {
  const { answer, verified } = handle;
  switch (answer.status) {
    case "completed":
      return [...receipt(answer), ...proofWords(verified)].join(" · ");
    case "incomplete":
      return [cutWords(answer.incompleteReason), ...receipt(answer), ...proofWords(verified)].join(" · ");
    case "cancelled":
      return answer.text === "" ? "Stopped before it began." : "Stopped. This is what had been written.";
    case "failed":
      return failureWords(answer.error);
  }
  if (state === "closed") return "Not connected.";
  if (handle.stopping) return "Stopping…";
  if (handle.busy) return "The service is busy. Trying again…";
  if (answer.status === "sending") return sendingWords(handle.request !== null, state);
  if (state !== "open") return "Waiting for the connection. The rest follows.";
  if (answer.status === "queued") return queueWords(answer.queue);
  if (answer.queue !== null) return "It broke off. Another attempt begins soon…";
  if (answer.attempts > 1) return restartWords(answer);
  return answer.text === "" ? "Thinking…" : "Writing…";
}

/** @param {boolean} asked @param {State} state */
function sendingWords(asked, state) {
  if (!asked) return "Fetching the answer…";
  return state === "open" ? "Sending…" : "Not sent yet. It goes out once, as soon as there is a connection.";
}

/** @param {Answer["queue"]} queue */
function queueWords(queue) {
  if (queue?.position == null) return "Accepted. Waiting for a free worker…";
  const ahead = queue.position <= 1 ? "Accepted. Next in line" : `Accepted. Number ${queue.position} in line`;
  return queue.etaSeconds == null ? `${ahead}…` : `${ahead}, about ${duration(Math.max(1, Math.round(queue.etaSeconds)) * 1000)}…`;
}

/** @param {Answer} answer */
function restartWords(answer) {
  const reason = answer.restartReason ?? "";
  // A reason of the server is a code or a sentence; a code that is not known here is left unsaid.
  const why = /^[a-z_.:\d]*$/.test(reason) ? "The worker or the model broke off" : reason;
  return `${why.replace(/\.$/, "")}. Attempt ${answer.attempts} begins anew…`;
}

/** @param {string | null} reason */
function cutWords(reason) {
  if (reason === "max_output_tokens") return "Cut off at the limit of its length";
  if (reason === "content_filter") return "Cut off by the model's filter";
  return "Incomplete";
}

/** What went wrong and what to do about it. @param {Failure | null} error */
function failureWords(error) {
  switch (error?.code) {
    case "outbox_full":
      return "Too many prompts are waiting already. Stop some of them, or wait.";
    case "connection_closed":
      return `${error.message} Reload the page to try again.`;
    case "outcome_unknown":
    case "never_sent":
    case "not_accepted":
      return `${error.message} Ask again.`;
  }
  if (error?.status === 404) return "The server no longer keeps this answer. Ask again.";
  if (error?.status === 413) return "This is too long for the server. Shorten it and ask again.";
  if (error?.status === 429) return "Too many requests just now. Wait a little and ask again.";
  return `Failed: ${error?.message ?? "no reason was given."} You can ask again.`;
}

/** @param {Answer} answer */
function receipt({ attempts, proof }) {
  const words = [];
  const total = proof?.timing?.total_ms;
  if (typeof total === "number") words.push(`Done in ${duration(total)}`);
  if (attempts > 1) words.push(`attempt ${attempts}`);
  return words;
}

/** @param {boolean | null} verified */
function proofWords(verified) {
  if (verified === null) return [];
  return [verified ? "whole: the checksum matches" : "damaged: the checksum does not match, reload the page"];
}

/** @param {number} ms */
function duration(ms) {
  if (ms < 950) return `${Math.max(1, Math.round(ms / 100)) / 10} s`;
  if (ms < 9_950) return `${Math.round(ms / 100) / 10} s`;
  return ms < 90_000 ? `${Math.round(ms / 1000)} s` : `${Math.round(ms / 60_000)} min`;
}

/** One word for each state of the connection. @type {Readonly<Record<State, string>>} */
export const STATE_WORDS = {
  connecting: "connecting", open: "connected", reconnecting: "reconnecting", closed: "disconnected",
};

/**
 * What the banner says when a connection is missing for longer than a moment.
 * @param {State} state
 * @param {{code: number, reason: string} | null} closed
 */
export function bannerWords(state, closed) {
  switch (state) {
    case "open":
      return "";
    case "connecting":
      return "Connecting…";
    case "reconnecting":
      return "Reconnecting. Answers go on being written, and arrive here whole.";
    case "closed":
      if (closed?.code === 4401) return "The server asks for credentials.";
      if (closed?.code === 4403) return "The server does not let this page in.";
      return `The server ended the connection (${closed?.code}${closed?.reason ? `: ${closed.reason}` : ""}). Reload the page.`;
  }
}
