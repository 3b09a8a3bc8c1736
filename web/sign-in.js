// @ts-check
/** A form for the token that the server requires. The token is kept until the tab is closed. */

import { make } from "./dom.js";

const KEPT = "holdline.token";
/** The close code for missing or rejected credentials. */
export const UNAUTHENTICATED = 4401;

/** Returns the token that was entered in this tab. @returns {string | null} */
export const keptToken = () => sessionStorage.getItem(KEPT);

/** @type {HTMLFormElement | null} */
let form = null;

/** Shows the form at the top of the page. @param {(token: string) => void} given */
export function askForToken(given) {
  const refused = keptToken() !== null;
  sessionStorage.removeItem(KEPT);
  form ??= makeForm(given);
  const [says] = form.children;
  if (says) says.textContent = refused ? "The server does not accept this token." : "This server requires a token or an API key.";
  form.hidden = false;
}

export function hideSignIn() {
  if (form) form.hidden = true;
}

/** Makes the form. @param {(token: string) => void} given */
function makeForm(given) {
  const field = Object.assign(make("input"), { type: "password", id: "token", autocomplete: "off", required: true });
  const label = Object.assign(make("label", "", "Token"), { htmlFor: "token" });
  const button = make("button", "button", "Sign in");
  const made = make("form", "sign-in", Object.assign(make("p"), { role: "alert" }), label, field, button);
  made.addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem(KEPT, field.value.trim());
    field.value = "";
    given(keptToken() ?? "");
  });
  document.querySelector("main")?.before(made);
  return made;
}
