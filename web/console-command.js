// @ts-check
/** A command that the operator copies into a terminal. The console itself changes nothing. */

import { button, make } from "./dom.js";
import { copy, COPIED_MS } from "./signs.js";

/** Makes a command with a button that copies it. @param {string} command */
export function commandLine(command) {
  const made = button("command-copy", `Copy the command ${command}`, async () => {
    await copy(command);
    made.textContent = "Copied";
    setTimeout(() => (made.textContent = "Copy"), COPIED_MS);
  }, "Copy");
  return make("div", "command", make("code", "", command), made);
}
