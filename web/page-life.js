// @ts-check
/** Connects the life cycle of a page to a client: shown, hidden, frozen, resumed, online. */

/**
 * The methods that receive life-cycle changes.
 * @typedef {{
 *   probe: () => void, setHidden: (hidden: boolean) => void, suspend: () => void, wake: () => void,
 * }} Living
 */

/**
 * Reports the life cycle of a page to a client until the returned function is called.
 *
 * After each of these changes, the socket may be dead without a close event: the network has changed, the laptop was
 * opened, or the page was restored from the back-forward cache.
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
    [window, "offline", probe], // this event is often wrong, so the socket is only probed
    [window, "pagehide", suspend], // an open socket would prevent back-forward caching
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
