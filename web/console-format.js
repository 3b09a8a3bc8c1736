// @ts-check
/** Formats times, numbers and commands for the console. This module performs no I/O. */

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** Writes a length of time for people: "now", "12 s", "4 min", "3 h 5 min", "2 days". @param {number} seconds */
export function span(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 1) return "now";
  if (whole < MINUTE) return `${whole} s`;
  if (whole < HOUR) return `${Math.floor(whole / MINUTE)} min`;
  if (whole < DAY) {
    const minutes = Math.floor((whole % HOUR) / MINUTE);
    return `${Math.floor(whole / HOUR)} h${minutes ? ` ${minutes} min` : ""}`;
  }
  const days = Math.floor(whole / DAY);
  return days === 1 ? "1 day" : `${days} days`;
}

/** Writes how long ago something was: "just now", "4 min ago". @param {number} seconds */
export function ago(seconds) {
  return seconds < 1 ? "just now" : `${span(seconds)} ago`;
}

/** Writes a measured duration: "420 ms", "3.2 s", "4 min 5 s". @param {number} ms */
export function duration(ms) {
  if (ms < 1_000) return `${Math.max(0, Math.round(ms))} ms`;
  const seconds = ms / 1_000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < MINUTE) return `${Math.floor(seconds)} s`;
  if (seconds >= HOUR) return span(seconds);
  const rest = Math.floor(seconds % MINUTE);
  return `${Math.floor(seconds / MINUTE)} min${rest ? ` ${rest} s` : ""}`;
}

const NUMBER = new Intl.NumberFormat("en");
const LARGE = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

/** Writes a number: "1,234", or "1.2M" from a million on. @param {number} value */
export const count = (value) => (value >= 1_000_000 ? LARGE : NUMBER).format(value);

/** Writes a number with its noun: "1 worker", "3 workers". @param {number} value @param {string} noun @param {string} [plural] */
export const counted = (value, noun, plural = `${noun}s`) => `${count(value)} ${value === 1 ? noun : plural}`;

/** Writes a share of a limit: "0%", "under 1%", "84%". @param {number} share */
export function percent(share) {
  if (share > 0 && share < 0.01) return "under 1%";
  return `${Math.floor(share * 100)}%`;
}

/** The start of an id, which distinguishes it on one screen. @param {string} id @param {number} [length] */
export const short = (id, length = 18) => (id.length > length + 1 ? `${id.slice(0, length)}…` : id);

/** Quotes a word for a POSIX shell, if that is necessary. @param {string} word */
export function quoted(word) {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

/** Writes a time of day with seconds, in the time zone of the reader. @param {number} unixSeconds */
export function clock(unixSeconds) {
  return new Date(unixSeconds * 1_000).toLocaleTimeString("en-GB");
}

/** Writes a date and a time of day. @param {number} unixSeconds */
export function moment(unixSeconds) {
  const date = new Date(unixSeconds * 1_000);
  return `${date.toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric" })}, ${clock(unixSeconds)}`;
}

/** Returns true if a text has the form of a response id. @param {string} text */
export const isResponseId = (text) => /^resp_\w{1,120}$/.test(text);

/** Returns the response id in a text that somebody pasted: an id, a link, a log line; or null. @param {string} text */
export const responseIdIn = (text) => /resp_\w{1,120}/.exec(text)?.[0] ?? null;

/** Returns what distinguishes alerts, apart from the numbers in their texts. The numbers in a command name its target.
 * @param {{level: string, text: string, command: string | null}[]} alerts
 */
export const kindsOf = (alerts) => JSON.stringify(alerts.map(({ level, text, command }) => [level, text.replace(/[\d.,]+/g, ""), command]));
