// @ts-check
/**
 * Finds the comments in a review as it is written: the points of its lists that begin with a line. This module performs
 * no I/O.
 *
 *     - L12-15 (high): The file is never closed.
 */

import { SECTIONS, sectionsOf } from "./review-text.js";

/** @typedef {import("./review-text.js").Section} Section */
/** @typedef {"high" | "medium" | "low"} Severity */
/** @typedef {{first: number, last: number, severity: Severity, section: Section | "preface", text: string}} Comment `text` is Markdown */
/** @typedef {{preface: string} & Record<Section, string>} Rest the parts of the answer that are not comments */

/** The severities, the highest first. @type {readonly Severity[]} */
export const SEVERITIES = ["high", "medium", "low"];

const ITEM = /^ {0,3}(?:[-*+]|\d{1,9}[.)])(?:\s+(.*))?$/;
/** The beginning of a comment: a line or a range, a severity in brackets, a colon; models emphasize any of them. */
const HEAD = /^[*_`[]*(?:L|lines?\s)(\d{1,6})(?:\s?(?:[-–]|to)\s?L?(\d{1,6}))?(?![\d\w])[*_`\]]*\s*(?:[([](high|medium|low)[)\]])?[*_`]*\s*[:.,–—-]?[*_`]*\s*(?:[([](high|medium|low)[)\]][*_`]*:?)?\s*(.*)$/i;
/** The beginning of a line that may become a point. */
const BEGUN = /^ {0,3}(?:[-*+]|\d{1,9}(?:[.)]|$)|$)/;
/** An unfinished point is shown once it has this many characters, because its beginning may be an unfinished line number. */
const DECIDED = 32;

/**
 * Divides an answer into its comments and the rest.
 * @param {string} text @param {boolean} running whether more text may follow
 * @returns {{comments: Comment[], rest: Rest}}
 */
export function reviewOf(text, running) {
  const parts = sectionsOf(text);
  /** @type {Comment[]} */
  const comments = [];
  const rest = { ...parts };
  const written = [...SECTIONS].reverse().find((section) => parts[section] !== "") ?? "preface";
  for (const section of /** @type {const} */ (["preface", ...SECTIONS])) {
    const found = divide(parts[section], section, running && section === written);
    comments.push(...found.comments);
    rest[section] = found.rest;
  }
  return { comments, rest };
}

/** Divides a section. @param {string} text @param {Section | "preface"} section @param {boolean} running */
function divide(text, section, running) {
  /** @type {Comment[]} */
  const comments = [];
  let rest = "";
  /** @type {Comment | null} */
  let current = null;
  let fence = "";
  let afterBlank = false;
  for (const line of text.split(/(?<=\n)/)) {
    const item = fence === "" ? ITEM.exec(line.trimEnd()) : null;
    if (running && fence === "" && !line.endsWith("\n") && line.length < DECIDED && BEGUN.test(line)) break;
    const head = item ? HEAD.exec(item[1] ?? "") : null;
    const first = Number(head?.[1] ?? 0);
    const mark = /^\s*(`{3,}|~{3,})/.exec(line)?.[1] ?? "";
    if (head && first > 0) {
      const severity = /** @type {Severity} */ ((head[3] ?? head[4])?.toLowerCase() ?? (section === "bugs" ? "medium" : "low"));
      const begun = head[5] ?? "";
      current = { first, last: Math.max(first, Number(head[2] ?? first)), severity, section, text: line.endsWith("\n") ? `${begun}\n` : begun };
      comments.push(current);
    } else {
      const outside = !/^(?:\s|$)/.test(line) && afterBlank && fence === "";
      if (item || outside) current = null;
      if (current) current.text += line.replace(/^ {1,4}|^\t/, "");
      else rest += line;
    }
    if (fence === "") fence = head ? "" : mark;
    else if (mark.startsWith(fence)) fence = "";
    afterBlank = line.trim() === "";
  }
  for (const comment of comments) comment.text = comment.text.trimEnd();
  return { comments, rest };
}

/** Counts comments by severity. @param {readonly Comment[]} comments @returns {Record<Severity, number>} */
export function countBySeverity(comments) {
  const counts = { high: 0, medium: 0, low: 0 };
  for (const { severity } of comments) counts[severity] += 1;
  return counts;
}

/** Returns the text for a line or a range of lines. @param {{first: number, last: number}} lines */
export const linesText = ({ first, last }) => (first === last ? `L${first}` : `L${first}-${last}`);

/** Returns a number with its noun. @param {number} count @param {string} noun */
export const counted = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

/** Summarizes counts, for example "3 comments: 1 high, 2 low". @param {Record<Severity, number>} counts */
export function countsText(counts) {
  const total = SEVERITIES.reduce((sum, severity) => sum + counts[severity], 0);
  const listed = SEVERITIES.filter((severity) => counts[severity] > 0).map((severity) => `${counts[severity]} ${severity}`);
  return total === 0 ? "no comments" : `${counted(total, "comment")}: ${listed.join(", ")}`;
}

const TITLES = { preface: "", improvements: "Improvements", complexity: "Complexity", bugs: "Bugs" };

/**
 * Writes a review as Markdown.
 * @param {readonly {name: string, text: string, status: string}[]} files `text` is the answer; `status` describes an
 *   answer that is not complete, or is empty
 */
export function markdownOf(files) {
  const reviews = files.map((file) => ({ ...file, ...reviewOf(file.text, false) }));
  const all = reviews.flatMap(({ comments }) => comments);
  const lines = ["# Code review", "", `${counted(files.length, "file")}, ${countsText(countBySeverity(all))}.`];
  for (const { name, status, comments, rest } of reviews) {
    lines.push("", `## ${escaped(name || "Code")}`);
    if (status) lines.push("", `*${status}*`);
    const sorted = [...comments].sort((a, b) => a.first - b.first);
    if (sorted.length > 0) lines.push("");
    for (const comment of sorted) {
      const text = comment.text.split("\n").join("\n  ");
      lines.push(`- ${linesText(comment)} **${comment.severity}**: ${text}`);
    }
    for (const section of /** @type {const} */ (["preface", ...SECTIONS])) {
      const text = rest[section].replace(/^\s*# [^\n]*\n?/, "").trim();
      if (text) lines.push("", ...(TITLES[section] ? [`### ${TITLES[section]}`, ""] : []), text);
    }
  }
  return `${lines.join("\n").replace(/[ \t]+$/gm, "")}\n`;
}

/** Escapes a file name for Markdown. @param {string} name */
const escaped = (name) => name.replace(/[\\`*_[\]<>#|]/g, "\\$&");
