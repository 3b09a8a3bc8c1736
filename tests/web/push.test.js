import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import vm from "node:vm";

const SOURCE = readFileSync(new URL("../../web/push-worker.js", import.meta.url), "utf8");
const ID = `resp_${"0a".repeat(17)}b`;
const KEY = Buffer.from(Array(65).fill(7)).toString("base64url");
const OTHER_KEY = Buffer.from(Array(65).fill(8)).toString("base64url");

/** A cache of the browser, which the page and the worker share. */
function cacheStorage() {
  const kept = new Map();
  return {
    open: async (name) => ({ put: async (key, response) => void kept.set(`${name} ${key}`, await response.text()) }),
    match: async (key, { cacheName }) => {
      const text = kept.get(`${cacheName} ${key}`);
      return text === undefined ? undefined : new Response(text);
    },
    delete: async (name) => [...kept.keys()].forEach((key) => key.startsWith(name) && kept.delete(key)),
  };
}

/** A subscription of a simulated browser. */
function subscriptionWith(key, name) {
  const subscription = {
    name,
    gone: false,
    options: { applicationServerKey: Uint8Array.from(Buffer.from(key, "base64url")).buffer },
    toJSON: () => ({ endpoint: `https://push.example/${name}`, expirationTime: null, keys: {} }),
    unsubscribe: async () => { subscription.gone = true; },
  };
  return subscription;
}

/** A simulated Holdline server, whose current VAPID key is `key`. */
function serverWith(key) {
  const calls = [];
  const fetch = async (url, init = {}) => {
    if (String(url).endsWith("/token")) return new Response("fresh-token\n");
    const path = new URL(url).pathname.replace("/holdline/v1/push/", "");
    calls.push([init.method ?? "GET", path, init.body ? JSON.parse(init.body) : null, init.headers?.Authorization]);
    if (path === "key") return Response.json({ key: server.key });
    if (server.refusal) return Response.json({ error: server.refusal }, { status: 429 });
    return Response.json({ id: server.id });
  };
  const server = { key, id: "push_1", refusal: null, calls, fetch };
  return server;
}

/** Runs the worker's script, and returns what its handlers see and do. */
function workerWith({ caches, pages = [], fetch = undefined, subscribe = async () => null }) {
  const done = { shown: [], opened: [], listeners: new Map() };
  const context = {
    URL, Uint8Array, atob, Response, caches, fetch, encodeURIComponent, JSON,
    location: new URL("https://shop.example/sw.js"),
    clients: { matchAll: async () => pages, openWindow: async (url) => void done.opened.push(url) },
    registration: {
      scope: "https://shop.example/", showNotification: async (title, options) => void done.shown.push([title, options]),
      pushManager: { subscribe },
    },
    addEventListener: (name, listener) => done.listeners.set(name, listener),
  };
  vm.runInNewContext(SOURCE, context);
  done.dispatch = async (name, event) => {
    const seen = { stopped: false, waited: [] };
    done.listeners.get(name)({ ...event, waitUntil: (it) => seen.waited.push(it), stopImmediatePropagation: () => { seen.stopped = true; } });
    await Promise.all(seen.waited);
    return seen;
  };
  return done;
}

const dataOf = (message) => ({ json: () => JSON.parse(message) });
const pageAt = (url, visibilityState = "hidden") => {
  const page = { url, visibilityState, heard: [], focused: 0 };
  page.postMessage = (message) => page.heard.push({ ...message });
  page.focus = async () => { page.focused += 1; };
  return page;
};
const withSettings = async (settings) => {
  const caches = cacheStorage();
  await (await caches.open("holdline-push")).put("/holdline-push-settings", new Response(JSON.stringify(settings)));
  return caches;
};

test("a push shows a notification with the texts of the page, which replaces an earlier one", async () => {
  const caches = await withSettings({ texts: { title: "The shop", body: "Ready.", failed: "Failed.", lang: "en" } });
  const worker = workerWith({ caches, pages: [pageAt("https://shop.example/")] });
  for (const message of [{ status: "completed" }, { status: "failed" }, { status: "completed", preview: "Blue" }]) {
    await worker.dispatch("push", { data: dataOf(JSON.stringify({ id: ID, ...message })) });
  }
  assert.deepEqual(worker.shown.map(([title, { body, tag, lang }]) => [title, body, tag, lang]), [
    ["The shop", "Ready.", ID, "en"], ["The shop", "Failed.", ID, "en"], ["The shop", "Blue", ID, "en"],
  ]);
});

test("a visible page gets a message instead of a notification", async () => {
  const pages = [pageAt("https://shop.example/a"), pageAt("https://shop.example/b", "visible")];
  const worker = workerWith({ caches: cacheStorage(), pages });
  await worker.dispatch("push", { data: dataOf(JSON.stringify({ id: ID, status: "completed" })) });
  assert.deepEqual(pages.map(({ heard }) => heard), [[], [{ type: "holdline:push", id: ID, status: "completed" }]]);
  assert.deepEqual(worker.shown, []);
});

test("the site's own pushes and notifications are left to the site", async () => {
  const worker = workerWith({ caches: cacheStorage() });
  for (const data of [null, dataOf("{"), dataOf("null"), dataOf('{"id": "order-5"}'), dataOf(`{"id": "x${ID}"}`)]) {
    assert.deepEqual(await worker.dispatch("push", { data }), { stopped: false, waited: [] });
  }
  assert.equal((await worker.dispatch("notificationclick", { notification: { data: null } })).stopped, false);
  assert.deepEqual(worker.shown, []);
});

test("a click focuses the open page of the answer, or opens it", async () => {
  const caches = await withSettings({ page: "https://shop.example/chat?answer={id}&in={conversation}" });
  const notification = { data: { holdline: { id: ID, conversation: "conv_1" } }, close() {} };
  const other = workerWith({ caches, pages: [pageAt("https://shop.example/cart")] });
  await other.dispatch("notificationclick", { notification });
  assert.deepEqual(other.opened, [`https://shop.example/chat?answer=${ID}&in=conv_1`]);

  const page = pageAt("https://shop.example/chat?answer=other");
  const open = workerWith({ caches, pages: [page] });
  await open.dispatch("notificationclick", { notification });
  assert.deepEqual([page.focused, page.heard[0].type, page.heard[0].id, open.opened.length], [1, "holdline:open", ID, 0]);
});

test("the worker renews a replaced subscription with a token of the site", async () => {
  const settings = { id: "push_1", key: KEY, server: "https://host.example/holdline/", tokenUrl: "https://shop.example/token" };
  const caches = await withSettings(settings);
  const server = serverWith(KEY);
  server.id = "push_2";
  const worker = workerWith({ caches, fetch: server.fetch, subscribe: async () => subscriptionWith(KEY, "new") });
  await worker.dispatch("pushsubscriptionchange", {});
  assert.deepEqual(server.calls.map(([method, path, , token]) => [method, path, token]), [
    ["POST", "subscriptions", "Bearer fresh-token"], ["DELETE", "subscriptions/push_1", "Bearer fresh-token"],
  ]);
  const kept = await (await caches.match("/holdline-push-settings", { cacheName: "holdline-push" })).json();
  assert.equal(kept.id, "push_2");
});

/** Sets up a page whose browser has the subscription `existing`. */
async function pageWith({ permission = "granted", existing = null, server = serverWith(KEY) } = {}) {
  const state = { existing, subscribed: [], server };
  class ServiceWorkerRegistration {
    active = { state: "activated", addEventListener() {} };
    pushManager = {
      getSubscription: async () => state.existing,
      subscribe: async ({ applicationServerKey }) => {
        state.existing = subscriptionWith(Buffer.from(applicationServerKey).toString("base64url"), `made${state.subscribed.length}`);
        state.subscribed.push(state.existing);
        return state.existing;
      },
    };
  }
  const registration = new ServiceWorkerRegistration();
  const globals = {
    ServiceWorkerRegistration, PushManager: class {}, caches: cacheStorage(), fetch: server.fetch,
    Notification: { permission, requestPermission: async () => permission },
    navigator: { serviceWorker: { register: async () => registration } },
    location: new URL("https://shop.example/chat"),
  };
  for (const [name, value] of Object.entries(globals)) Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  const options = { serviceWorker: "/sw.js", server: "https://host.example/holdline", tokenProvider: () => "token" };
  return { state, options, push: await import("../../web/push.js") };
}

test("a page subscribes once, renews without asking, and unsubscribes", async () => {
  const { state, options, push } = await pageWith();
  assert.equal(await push.renewPush(options), null);
  assert.equal((await push.enablePush(options)).id, "push_1");
  await push.renewPush(options);
  assert.equal(state.subscribed.length, 1);
  const posted = state.server.calls.filter(([method]) => method === "POST");
  assert.deepEqual(posted.map(([, , body, token]) => [body.endpoint, body.application_server_key, token]),
    Array(2).fill(["https://push.example/made0", KEY, "Bearer token"]));
  await push.disablePush(options);
  assert.equal(state.existing.gone, true);
  assert.deepEqual(state.server.calls.at(-1).slice(0, 2), ["DELETE", "subscriptions/push_1"]);
  assert.equal(await push.renewPush(options), null);
});

test("a replaced VAPID key makes a new subscription", async () => {
  const old = subscriptionWith(OTHER_KEY, "old");
  const { state, options, push } = await pageWith({ existing: old });
  await push.enablePush(options);
  assert.deepEqual([old.gone, state.subscribed.length, state.existing.name], [true, 1, "made0"]);
});

test("each failure of the browser and of the network has a code, and the browser's error as its cause", async () => {
  const { state, options, push } = await pageWith();
  const fails = async (code, name) => assert.rejects(push.enablePush(options), (error) => (
    error instanceof push.PushError && error.code === code && error.cause?.name === name && error.message.includes("because")
  ));
  const registration = await navigator.serviceWorker.register("/sw.js");
  registration.pushManager.subscribe = async () => { throw new DOMException("because", "AbortError"); };
  await fails("push_refused", "AbortError");
  globalThis.fetch = async () => { throw new TypeError("because"); };
  await fails("push_unreachable", "TypeError");
  globalThis.fetch = async () => new Response("<html>", { status: 502 });
  await assert.rejects(push.enablePush(options), { code: "push_unreachable", message: "The server answered 502." });
  navigator.serviceWorker.register = async () => { throw new DOMException("because", "SecurityError"); };
  await fails("push_worker_failed", "SecurityError");
  assert.equal(await caches.match("/holdline-push-settings", { cacheName: "holdline-push" }), undefined);
  assert.equal(state.existing, null);
});

test("errors have a code, and the user logs out although the server cannot be reached", async () => {
  const denied = await pageWith({ permission: "denied" });
  await assert.rejects(denied.push.enablePush(denied.options), { code: "push_denied" });
  const full = await pageWith();
  full.state.server.refusal = { code: "push_subscriptions_full", message: "Full." };
  await assert.rejects(full.push.enablePush(full.options), { code: "push_subscriptions_full", message: "Full." });
  full.state.server.refusal = null;
  await full.push.enablePush(full.options);
  globalThis.fetch = async () => { throw new TypeError("offline"); };
  await full.push.disablePush(full.options);
  assert.equal(full.state.existing.gone, true);
  delete globalThis.PushManager;
  await assert.rejects(full.push.enablePush(full.options), { code: "push_unsupported" });
});
