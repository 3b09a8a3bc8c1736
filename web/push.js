// @ts-check
/**
 * Subscribes a browser to pushes, in the npm package `@holdline/client/push`; see `docs/push.md`.
 *
 *     button.onclick = () => enablePush({ serviceWorker: "/sw.js", tokenProvider, texts: { title: "Help" } });
 *
 * `push-worker.js` shows the notifications. Both share the settings in a cache of the browser.
 */

/** The cache with the settings, and the request under which it keeps them. */
const CACHE = "holdline-push", KEPT = "/holdline-push-settings";
const START_MS = 30_000;

/**
 * The texts of a notification. `body` is shown for completed answers, and `failed` for failed ones. A preview replaces
 * `body` if the server sends one.
 * @typedef {{title?: string, body?: string, failed?: string, icon?: string, lang?: string, dir?: "auto" | "ltr" | "rtl"}} Texts
 */

/**
 * `serviceWorker` is the address of the site's service worker, or its registration. `server` is the root URL of the
 * Holdline server; the page's own host by default. `tokenProvider` returns a token of the user. `page` is the page that a
 * click on the notification opens, in which `{id}` and `{conversation}` stand for those of the answer. `tokenUrl` is the
 * address on the site that returns a token as text, with which the service worker can renew the subscription alone.
 * @typedef {{
 *   serviceWorker: string | URL | ServiceWorkerRegistration, server?: string,
 *   tokenProvider: () => string | Promise<string>, texts?: Texts, page?: string, tokenUrl?: string,
 * }} PushOptions
 */

/** A subscription. `id` is its id on the server. @typedef {{id: string, subscription: PushSubscription}} Enabled */

/**
 * The error of a failed call, with the browser's own error as its `cause`. `code` is `push_unsupported` if the browser has
 * no Web Push, `push_denied` if the user does not allow notifications, `push_worker_failed` if the service worker does not
 * start, `push_refused` if the browser does not subscribe, `push_unreachable` if the server does not reply, or a code of
 * the server.
 */
export class PushError extends Error {
  /** @param {string} code @param {string} message @param {unknown} [cause] */
  constructor(code, message, cause) {
    super(message, { cause });
    this.name = "PushError";
    this.code = code;
  }
}

/**
 * Returns a function that throws a `PushError` with the message of an error of the browser.
 * @param {string} code @param {string} message @returns {(cause: unknown) => never}
 */
const failWith = (code, message) => (cause) => {
  throw new PushError(code, `${message}: ${cause instanceof Error ? cause.message : cause}`, cause);
};

/** Returns true if the browser has Web Push. On iPhones, only sites that were added to the home screen have it. */
export const isPushSupported = () =>
  "serviceWorker" in navigator && "PushManager" in globalThis && "Notification" in globalThis;

/**
 * Asks the user for permission, and subscribes the browser for the user of the token. Call it after a click, because
 * browsers ask only then. A repeated call changes the texts and renews the subscription.
 * @param {PushOptions} options
 * @returns {Promise<Enabled>}
 */
export async function enablePush(options) {
  if (!isPushSupported()) throw new PushError("push_unsupported", "This browser has no Web Push.");
  if (await Notification.requestPermission() !== "granted") {
    throw new PushError("push_denied", "Notifications are not allowed for this site.");
  }
  return subscribe(options, await started(options.serviceWorker));
}

/**
 * Renews the subscription of this browser, without asking the user. Call it when a page is opened: a subscription that is
 * not renewed for 60 days expires, and a replaced VAPID key requires a new one.
 * @param {PushOptions} options
 * @returns {Promise<Enabled | null>} null if pushes are not enabled in this browser
 */
export async function renewPush(options) {
  if (!isPushSupported() || Notification.permission !== "granted" || !await kept()) return null;
  return subscribe(options, await started(options.serviceWorker));
}

/**
 * Unsubscribes the browser, for example when the user logs out. If the server cannot be reached, the browser is
 * unsubscribed all the same, and the server removes the subscription after the next push.
 * @param {Pick<PushOptions, "serviceWorker" | "server" | "tokenProvider">} options
 */
export async function disablePush(options) {
  const settings = await kept();
  await globalThis.caches?.delete(CACHE);
  if (!isPushSupported() || !settings) return;
  const registration = await started(options.serviceWorker);
  const subscription = await registration.pushManager.getSubscription();
  await subscription?.unsubscribe();
  try {
    await call(options, `subscriptions/${settings.id}`, { method: "DELETE" });
  } catch {
    // The push service answers the next push with 410, and the server then removes the subscription.
  }
}

/** Subscribes with the server's current key. @param {PushOptions} options @param {ServiceWorkerRegistration} registration */
async function subscribe(options, registration) {
  const { key } = await call(options, "key");
  const applicationServerKey = bytes(key);
  let subscription = await registration.pushManager.getSubscription();
  if (subscription && !same(subscription.options.applicationServerKey, applicationServerKey)) {
    await subscription.unsubscribe();
    subscription = null;
  }
  subscription ??= await registration.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey })
    .catch(failWith("push_refused", "The browser does not subscribe to its push service"));
  const body = JSON.stringify({ ...subscription.toJSON(), application_server_key: key });
  const { id } = await call(options, "subscriptions", { method: "POST", body });
  await keep(options, id, key);
  return { id, subscription };
}

/** Sends a request to the server. @param {Pick<PushOptions, "server" | "tokenProvider">} options @param {string} path @param {RequestInit} [init] */
async function call(options, path, init = {}) {
  const url = new URL(`v1/push/${path}`, root(options.server));
  const headers = { Authorization: `Bearer ${await options.tokenProvider()}`, "Content-Type": "application/json" };
  const response = await fetch(url, { ...init, headers }).catch(failWith("push_unreachable", `${url.origin} does not reply`));
  const body = await response.json().catch(() => ({}));
  if (response.ok) return body;
  const { code = "push_unreachable", message = `The server answered ${response.status}.`, holdline } = body.error ?? {};
  throw new PushError(holdline?.error_code ?? code, message);
}

/** Returns the root URL of the server, with a slash at its end. @param {string} [server] */
const root = (server = "/") => new URL(server.endsWith("/") ? server : `${server}/`, location.href);

/** Starts the service worker. @param {PushOptions["serviceWorker"]} worker @returns {Promise<ServiceWorkerRegistration>} */
async function started(worker) {
  const made = worker instanceof ServiceWorkerRegistration;
  const registration = made ? worker : await navigator.serviceWorker.register(worker)
    .catch(failWith("push_worker_failed", "The service worker cannot be registered"));
  const starting = registration.active ?? registration.waiting ?? registration.installing;
  if (!starting) throw new PushError("push_worker_failed", "The service worker does not start.");
  await new Promise((resolve, reject) => {
    const failed = () => reject(new PushError("push_worker_failed", "The service worker does not start."));
    const timer = setTimeout(failed, START_MS);
    const check = () => {
      if (starting.state === "redundant" && !registration.active) failed();
      else if (starting.state === "activated" || registration.active) resolve(clearTimeout(timer));
    };
    starting.addEventListener("statechange", check);
    check();
  });
  return registration;
}

/** Stores the settings for the service worker. @param {PushOptions} options @param {string} id @param {string} key */
async function keep({ server, texts, page, tokenUrl }, id, key) {
  const settings = {
    id, key, texts: texts ?? {},
    server: root(server).href,
    page: new URL(page ?? location.href, location.href).href,
    tokenUrl: tokenUrl && new URL(tokenUrl, location.href).href,
  };
  const cache = await caches.open(CACHE);
  await cache.put(KEPT, new Response(JSON.stringify(settings)));
}

/** Returns the stored settings, or null. @returns {Promise<{id: string} | null>} */
async function kept() {
  const found = await globalThis.caches?.match(KEPT, { cacheName: CACHE });
  return found ? found.json() : null;
}

/** Decodes base64url. @param {string} text */
const bytes = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));

/** Returns true if a key has these bytes. @param {ArrayBuffer | null} key @param {Uint8Array} expected */
const same = (key, expected) => {
  const found = new Uint8Array(key ?? []);
  return found.length === expected.length && found.every((byte, at) => byte === expected[at]);
};
