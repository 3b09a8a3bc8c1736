// @ts-check
/** Draws a small line of recent values. */

import { STEP_MS, STEPS } from "./console-history.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 180;
const HEIGHT = 36;
const INSET = 2;

/** Makes an SVG element. @param {string} tag @param {{[name: string]: string}} attributes */
function shape(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

/** A shorter history is stretched over this many steps, so that it does not begin as a dot at the edge. */
const MIN_STEPS = 24;
const MIN_POINTS = 3;

/** A line with the area below it. Its right edge is now; its left edge is at most fifteen minutes ago. */
export class Sparkline {
  element = shape("svg", { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
  #area = shape("path", { class: "spark-area" });
  #line = shape("path", { class: "spark-line" });

  /** @param {string} label what the values are */
  constructor(label) {
    this.label = label;
    this.element.append(this.#area, this.#line);
    this.show([]);
  }

  /** Shows values, oldest first. A null is a gap. @param {(number | null)[]} values */
  show(values) {
    const known = values.filter((value) => value !== null);
    const top = Math.max(1, ...known);
    const parts = known.length < MIN_POINTS ? [] : pieces(values, top);
    this.#line.setAttribute("d", parts.map((part) => `M${part.join("L")}`).join(""));
    this.#area.setAttribute("d", parts.map((part) => `M${foot(part[0])}L${part.join("L")}L${foot(part.at(-1))}Z`).join(""));
    const [least, most] = [Math.min(...known), Math.max(...known)].map((value) => Math.round(value * 10) / 10);
    const range = least === most ? `steady at ${least}` : `between ${least} and ${most}`;
    const minutes = Math.max(1, Math.round((values.length * STEP_MS) / 60_000));
    this.element.setAttribute("aria-label", known.length < MIN_POINTS ? `${this.label}: no history yet` : `${this.label} in the last ${minutes} min: ${range}`);
  }
}

/** Returns the points of each run of values without a gap. @param {(number | null)[]} values @param {number} top @returns {string[][]} */
function pieces(values, top) {
  /** @type {string[][]} */
  const found = [[]];
  const steps = Math.min(Math.max(values.length, MIN_STEPS), STEPS);
  for (const [index, value] of values.entries()) {
    if (value === null) {
      if (found.at(-1)?.length) found.push([]);
      continue;
    }
    const x = WIDTH - ((values.length - 1 - index) * WIDTH) / (steps - 1);
    const y = HEIGHT - INSET - (value / top) * (HEIGHT - 2 * INSET);
    found.at(-1)?.push(`${x.toFixed(1)} ${y.toFixed(1)}`);
  }
  return found.filter((part) => part.length > 1);
}

/** Returns the point below a point, on the base line. @param {string} [point] */
const foot = (point = "0") => `${point.split(" ")[0]} ${HEIGHT}`;
