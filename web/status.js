// @ts-check
/** The texts for the states of an answer and of the connection. This module performs no I/O. */

import { fill } from "./words.js";

/** @typedef {import("./response-state.js").ResponseState} ResponseState */
/** @typedef {import("./response-state.js").Failure} Failure */
/** @typedef {import("./connection.js").State} State */
/** @typedef {Readonly<Record<keyof typeof STATUS, string>>} StatusWords */

/** The name of the simulated model. */
export const SIMULATION = "holdline-demo";

export const STATUS = {
  you: "You asked: ",
  answer: "Answer",
  again: "Ask again",
  regenerate: "Regenerate",
  edit: "Edit and ask again",
  cancelEdit: "Cancel the edit",
  latest: "Latest",
  copyAnswer: "Copy the answer",
  copy: "Copy",
  copied: "Copied",
  code: "Code",
  formula: "Formula",
  table: "Table",
  image: "Image",
  done: "done:",
  todo: "to do:",
  thoughts: "Thinking",
  good: "Good answer",
  bad: "Bad answer",
  comment: "What was good or bad?",
  sendComment: "Send the comment",
  thanks: "Thank you.",
  notSaved: "Your feedback could not be saved.",
  toolRunning: "running",
  toolWaiting: "waiting",
  toolDone: "done",
  toolFailed: "failed",
  toolInput: "Input",
  toolOutput: "Result",
  runTools: "Continue",
  approvalQuestion: "The assistant asks whether it may use {name}.",
  approve: "Allow",
  deny: "Do not allow",
  approved: "allowed",
  denied: "not allowed",
  others: "Not shown here: {names}",
  sources: "Sources",
  source: "Source {n}",
  footnote: "Footnote {label}",
  backToText: "Footnote {label}, back to the text",
  followUps: "Suggestions",
  simulation: "simulation",

  attach: "Attach images and files, together up to {limit}",
  attached: "Images and files",
  removeFile: "Remove {name}",
  used: "{used} of {limit}",
  preparing: "Preparing…",
  tooManyFiles: "A prompt can have {n} images and files.",
  fileEmpty: "{name} is empty.",
  fileRefused: "{name} is not of a kind that can be attached here.",
  fileTooLarge: "{name} does not fit. All images and files together may have {limit}.",
  fileUnreadable: "{name} cannot be read.",
  imageUnreadable: "{name} cannot be shown by this browser.",
  filesElsewhere: "Not sent: images and files stay in the page in which they were attached. Attach them again.",
  filesForgotten: "The server no longer had the earlier messages. They were sent again, but without their images and files.",

  simulated: "These answers are simulated by Holdline, not written by a language model.",
  complete: "The answer is complete:",
  bannerConnecting: "Connecting…",
  bannerReconnecting: "Reconnecting. Answers continue, and will arrive complete.",
  bannerUnauthenticated: "The server requires credentials.",
  bannerForbidden: "The server does not allow this page.",
  bannerClosed: "The server ended the connection ({why}). Reload the page.",
  bannerDegraded: "The service has a storage problem. Answers may be late.",

  notConnected: "Not connected.",
  stopping: "Stopping…",
  busy: "The service is busy. Trying again…",
  fetching: "Fetching the answer…",
  sending: "Sending…",
  unsent: "Not sent yet. It will be sent once you are connected.",
  offline: "Waiting for the connection. The rest follows.",
  queued: "Accepted. Waiting for a free worker…",
  place: "Accepted. Number {place} in line…",
  placeAbout: "Accepted. Number {place} in line, about {time}…",
  next: "Accepted. Next in line…",
  nextAbout: "Accepted. Next in line, about {time}…",
  interrupted: "Interrupted. Another attempt starts soon…",
  thinking: "Thinking…",
  writing: "Writing…",
  attemptFailed: "The worker or the model failed",
  restarted: "{why}. Attempt {attempt} starts over…",
  stopped: "Stopped. This is the answer so far.",
  stoppedBefore: "Stopped before it began.",
  cutByLength: "Cut off at the length limit",
  cutByFilter: "Cut off by the model's filter",
  incomplete: "Incomplete",
  doneIn: "Done in {time}",
  attempt: "attempt {attempt}",
  verified: "complete: the checksum matches",
  damaged: "damaged: the checksum does not match, reload the page",
  seconds: "{n} s",
  minutes: "{n} min",

  tooManyWaiting: "Too many prompts are waiting. Stop some of them, or wait.",
  unauthenticated: "Not answered: the server requires credentials. Sign in and ask again.",
  closedFor: "{why} Reload the page to try again.",
  askAgain: "{why} Ask again.",
  forgotten: "The server no longer keeps this answer. Ask again.",
  tooLong: "This is too long for the server. Shorten it and ask again.",
  tooMany: "Too many requests. Wait a moment and ask again.",
  failed: "Failed: {why} You can ask again.",
  noReason: "no reason was given.",
};

/**
 * Returns the status line under an answer.
 * @param {{answer: ResponseState, stopping: boolean, busy: boolean, verified: boolean | null, request: object | null}} handle
 * @param {State} state of the connection, without short losses
 * @param {StatusWords} [words]
 */
export function statusWords(handle, state, words = STATUS) {
  const { answer, verified } = handle;
  switch (answer.status) {
    case "completed":
      return [...completionWords(answer, words), ...checksumWords(verified, words)].join(" · ");
    case "incomplete":
      return [cutWords(answer.incompleteReason, words), ...completionWords(answer, words), ...checksumWords(verified, words)]
        .join(" · ");
    case "cancelled":
      return answer.text === "" ? words.stoppedBefore : words.stopped;
    case "failed":
      return failureWords(answer.error, words);
  }
  if (state === "closed") return words.notConnected;
  if (handle.stopping) return words.stopping;
  if (handle.busy) return words.busy;
  if (answer.status === "sending") {
    if (handle.request === null) return words.fetching;
    return state === "open" ? words.sending : words.unsent;
  }
  if (state !== "open") return words.offline;
  if (answer.status === "queued") return queueWords(answer.queue, words);
  if (answer.queue !== null) return words.interrupted;
  if (answer.attempts > 1) return restartWords(answer, words);
  return answer.text === "" ? words.thinking : words.writing;
}

/** Returns the place in the queue as text. @param {ResponseState["queue"]} queue @param {StatusWords} words */
function queueWords(queue, words) {
  if (queue?.position == null) return words.queued;
  const next = queue.position <= 1;
  if (queue.etaSeconds == null) return next ? words.next : fill(words.place, { place: queue.position });
  const time = duration(Math.max(1, Math.round(queue.etaSeconds)) * 1000, words);
  return fill(next ? words.nextAbout : words.placeAbout, { place: queue.position, time });
}

/** Returns why the answer was restarted. @param {ResponseState} answer @param {StatusWords} words */
function restartWords(answer, words) {
  const reason = answer.restartReason ?? "";
  // The server's reason is a code or a sentence. Only a sentence is shown; a code is replaced with a general text.
  const why = /^[a-z_.:\d]*$/.test(reason) ? words.attemptFailed : reason;
  return fill(words.restarted, { why: why.replace(/\.$/, ""), attempt: answer.attempts });
}

/** Returns why the answer is incomplete. @param {string | null} reason @param {StatusWords} words */
function cutWords(reason, words) {
  if (reason === "max_output_tokens") return words.cutByLength;
  return reason === "content_filter" ? words.cutByFilter : words.incomplete;
}

/** Returns what went wrong and what the user can do. @param {Failure | null} error @param {StatusWords} words */
function failureWords(error, words) {
  const why = error?.message ?? words.noReason;
  if (error?.status === 401) return words.unauthenticated;
  switch (error?.code) {
    case "outbox_full":
      return words.tooManyWaiting;
    case "connection_closed":
      return fill(words.closedFor, { why });
    case "outcome_unknown":
    case "never_sent":
    case "not_accepted":
      return fill(words.askAgain, { why });
  }
  if (error?.status === 404) return words.forgotten;
  if (error?.status === 413) return words.tooLong;
  return error?.status === 429 ? words.tooMany : fill(words.failed, { why });
}

/** Returns the time and the number of attempts of a finished answer. @param {ResponseState} answer @param {StatusWords} words */
function completionWords({ attempts, trailer }, words) {
  const parts = [];
  const total = trailer?.timing?.total_ms;
  if (typeof total === "number") parts.push(fill(words.doneIn, { time: duration(total, words) }));
  if (attempts > 1) parts.push(fill(words.attempt, { attempt: attempts }));
  return parts;
}

/** Returns the result of the checksum. @param {boolean | null} verified @param {StatusWords} words */
function checksumWords(verified, words) {
  if (verified === null) return [];
  return [verified ? words.verified : words.damaged];
}

/** Returns a duration as text. @param {number} ms @param {StatusWords} words */
function duration(ms, words) {
  if (ms < 9_950) return fill(words.seconds, { n: Math.max(1, Math.round(ms / 100)) / 10 });
  if (ms < 90_000) return fill(words.seconds, { n: Math.round(ms / 1000) });
  return fill(words.minutes, { n: Math.round(ms / 60_000) });
}

/**
 * Returns the text of the banner, which reports long losses of the connection.
 * @param {State} state
 * @param {import("./connection.js").Close | null | undefined} closed
 * @param {StatusWords} [words]
 * @param {boolean} [degraded] whether the server reports that answers may be delayed
 */
export function bannerWords(state, closed, words = STATUS, degraded = false) {
  switch (state) {
    case "open":
      return degraded ? words.bannerDegraded : "";
    case "connecting":
      return words.bannerConnecting;
    case "reconnecting":
      return words.bannerReconnecting;
    case "closed":
      if (!closed || closed.code === 1000) return ""; // the widget itself has closed the connection
      if (closed.code === 4401) return words.bannerUnauthenticated;
      return fill(words.bannerClosed, { why: [closed.code, closed.reason].filter(Boolean).join(": ") });
  }
}
