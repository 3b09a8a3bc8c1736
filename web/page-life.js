// @ts-check
/** The life of a page as inputs of a client: shown, hidden, asleep, awake, back on line. */

/**
 * A listener to the life of a page.
 * @typedef {{
 *   probe: () => void, setHidden: (hidden: boolean) => void, suspend: () => void, wake: () => void,
 * }} Living
 */

/**
 * Feeds a page's life to a client until the returned function is called.
 *
 * Each of these moments is one at which a socket may be dead without a close event: the network changed, the
 * lid was opened, the page came out of the back-forward cache.
 * @param {Living} client
 * @param {Window} window
 * @returns {() => void}
 */
export function attachPage(client, window) {
  const document = window.document;
  const visibility = () => client.setHidden(document.visibilityState === "hidden");
  const probe = () => client.probe();
  const suspend = () => client.suspend();
  const wake = () => client.wake();

  /** @type {[EventTarget, string, () => void][]} */
  const inputs = [
    [window, "online", probe],
    [window, "offline", probe], // often wrong, so it is doubt and not news
    [window, "pagehide", suspend], // an open socket would keep the page out of the back-forward cache
    [window, "pageshow", wake],
    [document, "visibilitychange", visibility],
    [document, "freeze", suspend],
    [document, "resume", wake],
  ];
  for (const [target, name, input] of inputs) target.addEventListener(name, input);
  visibility();
  return () => {
    for (const [target, name, input] of inputs) target.removeEventListener(name, input);
  };
}
