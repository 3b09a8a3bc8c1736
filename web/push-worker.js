// @ts-check
/**
 * Shows the notifications of pushes, in the service worker of a site:
 *
 *     importScripts("https://HOST/push-worker.js");
 *
 * `push.js` subscribes the browser, and stores the settings. The worker ignores pushes and clicks that are not Holdline's,
 * so the site's own code can handle them.
 */
(() => {
  const CACHE = "holdline-push", KEPT = "/holdline-push-settings";
  /** The global object of a service worker. @type {any} */
  const worker = globalThis;

  /** Handles a push. @param {any} event */
  const pushed = (event) => {
    const message = messageOf(event.data);
    if (!message) return;
    event.stopImmediatePropagation();
    event.waitUntil(announce(message));
  };

  /** Returns the message of a push if it is Holdline's. @param {any} data @returns {any} */
  const messageOf = (data) => {
    try {
      const message = data.json();
      return /^resp_[0-9a-f]{35}$/.test(message.id) ? message : null;
    } catch {
      return null;
    }
  };

  /** Tells the visible pages, or shows a notification if there is none. @param {any} message */
  const announce = async (message) => {
    const pages = await worker.clients.matchAll({ type: "window", includeUncontrolled: true });
    const visible = pages.filter((/** @type {any} */ page) => page.visibilityState === "visible");
    for (const page of visible) page.postMessage({ type: "holdline:push", ...message });
    if (visible.length > 0) return;
    const { texts = {} } = await settings();
    const failed = message.status === "failed" && (texts.failed ?? "The answer has failed.");
    await worker.registration.showNotification(texts.title ?? "Your answer is ready", {
      body: failed || message.preview || texts.body || "",
      icon: texts.icon, lang: texts.lang, dir: texts.dir ?? "auto",
      tag: message.id, // a repeated push replaces the notification
      data: { holdline: message },
    });
  };

  /** Focuses an open page of the site, or opens one. @param {any} event */
  const clicked = (event) => {
    const message = event.notification.data?.holdline;
    if (!message) return;
    event.stopImmediatePropagation();
    event.notification.close();
    event.waitUntil(open(message));
  };

  /** @param {any} message */
  const open = async (message) => {
    const { page = worker.registration.scope } = await settings();
    const url = page.replace(/\{(id|conversation)\}|%7B(id|conversation)%7D/gi, (/** @type {string} */ _, /** @type {string} */ a, /** @type {string} */ b) =>
      encodeURIComponent(message[a ?? b] ?? ""));
    const pages = await worker.clients.matchAll({ type: "window", includeUncontrolled: true });
    const target = new URL(url, worker.location.href);
    const found = pages.find((/** @type {any} */ one) => new URL(one.url).pathname === target.pathname);
    if (!found) return worker.clients.openWindow(target.href);
    found.postMessage({ type: "holdline:open", ...message });
    return found.focus();
  };

  /** Subscribes again after the browser has dropped the subscription. @param {any} event */
  const changed = (event) => event.waitUntil(renew());

  const renew = async () => {
    const { key, server, tokenUrl, id } = await settings();
    if (!key) return;
    const applicationServerKey = Uint8Array.from(atob(key.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
    const subscription = await worker.registration.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey });
    if (!tokenUrl) return; // the next page that calls `renewPush` tells the server
    const token = await (await fetch(tokenUrl, { credentials: "include" })).text();
    const headers = { Authorization: `Bearer ${token.trim()}`, "Content-Type": "application/json" };
    const body = JSON.stringify({ ...subscription.toJSON(), application_server_key: key });
    const response = await fetch(`${server}v1/push/subscriptions`, { method: "POST", headers, body });
    if (!response.ok) return;
    const renewed = await response.json();
    if (renewed.id !== id) await fetch(`${server}v1/push/subscriptions/${id}`, { method: "DELETE", headers });
    const cache = await caches.open(CACHE);
    await cache.put(KEPT, new Response(JSON.stringify({ ...await settings(), id: renewed.id })));
  };

  /** Returns the settings that `push.js` has stored. @returns {Promise<any>} */
  const settings = async () => {
    const found = await caches.match(KEPT, { cacheName: CACHE });
    return found ? found.json() : {};
  };

  worker.addEventListener("push", pushed);
  worker.addEventListener("notificationclick", clicked);
  worker.addEventListener("pushsubscriptionchange", changed);
})();
