import assert from "node:assert/strict";
import { test } from "node:test";

import { Conversation } from "../../web/conversation.js";
import { ownerOf } from "../../web/protocol.js";
import { Thread } from "../../web/thread.js";
import { FakeClock, fakeSockets } from "./fakes.js";

const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
const tokenOf = (claims) => `${part({})}.${part(claims)}.s`;
const of = (sub, more = {}) => tokenOf({ iss: "i", tenant: "t", sub, ...more });

/** Returns a simulated browser: a storage, and threads whose token provider returns `browser.token`. */
function browser() {
  const kept = new Map();
  const storage = {
    getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => void kept.set(key, value),
    removeItem: (key) => void kept.delete(key),
  };
  const here = {
    kept, token: null, Sockets: fakeSockets(),
    tab(owner = null) {
      const clock = new FakeClock();
      return new Thread({
        url: "ws://h/", owner, page: null, more: () => ({}), note: () => "", aside: () => null,
        token: () => here.token, conversation: (whose) => new Conversation(whose === null ? nobodys() : storage, `c${whose}`),
        platform: { ...clock, now: clock.now, setTimer: clock.setTimer, clearTimer: clock.clearTimer, random: () => 0, WebSocket: here.Sockets },
      });
    },
  };
  return here;
}

const nobodys = () => ({ getItem: () => null, setItem() {}, removeItem() {} });
const settle = () => new Promise((resolve) => setTimeout(resolve));
const prompts = (thread) => thread.entries.map(({ turn }) => turn.prompt);
const sent = (here) => here.Sockets.made.map((socket) => socket.sent.map((message) => message.token ?? message.input));

/** Returns a tab with a signed-in user and an open socket. */
async function signedIn(here, token) {
  here.token = token;
  const thread = here.tab();
  thread.start();
  await settle();
  here.Sockets.last.welcome();
  return thread;
}

test("the owner is the issuer, tenant and subject of a token, or the public part of a key", () => {
  const all = [
    of("anna"), of("ben"), of("anna", { tenant: "u" }), of("anna", { iss: "j" }), of('anna","x'), `hl_2f9c01d4ab37_${"a".repeat(43)}`,
    `hl_2f9c01d4ab38_${"a".repeat(43)}`, null,
  ].map(ownerOf);
  assert.equal(new Set(all).size, all.length);
  assert.equal(ownerOf(of("anna", { exp: 1 })), ownerOf(of("anna", { exp: 2, jti: "x" })));
  assert.ok(!all.join().includes("aaaa"));
  assert.deepEqual(["", "a.b.c", `a.${part(null)}.c`, "opaque"].map(ownerOf), ["", "", "", ""]);
});

test("a refreshed token of the same subject keeps the socket and everything asked", async () => {
  const here = browser();
  const thread = await signedIn(here, of("anna", { jti: "1" }));
  thread.ask("hers");
  here.token = of("anna", { jti: "2" });
  await thread.renew();
  assert.deepEqual(prompts(thread), ["hers"]);
  assert.deepEqual(sent(here), [[of("anna", { jti: "1" }), "hers", here.token]]);
});

test("the token of another subject clears the view and opens a new socket", async () => {
  const here = browser();
  const thread = await signedIn(here, of("anna"));
  thread.ask("hers");
  here.token = of("ben");
  const left = new Promise((resolve) => thread.addEventListener("left", () => resolve(prompts(thread))));
  await thread.renew();
  assert.deepEqual(await left, []);
  here.Sockets.last.welcome();
  thread.ask("his");
  assert.deepEqual(sent(here), [[of("anna"), "hers"], [of("ben"), "his"]]);
});

for (const how of ["renewed", "reloaded"]) {
  test(`an unsent prompt waits for its owner, and goes in that name alone: ${how}`, async () => {
    const here = browser();
    let thread = await signedIn(here, of("anna"));
    here.Sockets.last.drop();
    await settle();
    thread.ask("hers");
    const next = async (token) => {
      here.token = token;
      if (how === "reloaded") {
        thread.end();
        thread = here.tab();
        thread.start();
      } else await thread.renew();
      await settle();
      if (here.Sockets.last.readyState === 0) here.Sockets.last.welcome();
    };
    await next(of("ben"));
    thread.ask("his");
    assert.deepEqual(prompts(thread), ["his"]);
    await next(of("anna"));
    assert.deepEqual(prompts(thread), ["hers"]);
    const withToken = sent(here).filter((frames) => frames.length > 1 && frames.some((frame) => frame === "hers" || frame === "his"));
    assert.deepEqual(withToken.at(-1), [of("anna"), "hers"]);
    for (const frames of withToken) assert.equal(frames[0], frames.includes("his") ? of("ben") : of("anna"));
  });
}

test("the token that is fetched after a loss may be another subject's", async () => {
  const here = browser();
  const thread = await signedIn(here, of("anna"));
  thread.ask("hers");
  here.token = of("ben");
  here.Sockets.last.drop();
  await settle();
  assert.deepEqual(prompts(thread), []);
  here.Sockets.last.welcome();
  assert.deepEqual(sent(here), [[of("anna"), "hers"], [of("ben")]]);
});

test("two tabs of one browser with two subjects keep two conversations", async () => {
  const here = browser();
  const hers = await signedIn(here, of("anna"));
  hers.ask("hers");
  const his = await signedIn(here, of("ben"));
  his.ask("his");
  hers.sync();
  his.sync();
  assert.deepEqual([prompts(hers), prompts(his)], [["hers"], ["his"]]);
  assert.equal(here.kept.size, 2);
});

test("a prompt sent before the first token belongs to the owner of that token", async () => {
  const here = browser();
  here.token = of("anna");
  const thread = here.tab();
  thread.ask("hers");
  assert.equal(here.kept.size, 0);
  await settle();
  here.Sockets.last.welcome();
  assert.deepEqual(sent(here), [[of("anna"), "hers"]]);
  assert.equal(here.kept.size, 1);
});

test("the later of two calls of the token provider counts, whichever resolves first", async () => {
  const here = browser();
  const thread = await signedIn(here, of("anna"));
  let slow;
  here.token = new Promise((resolve) => (slow = resolve));
  const first = thread.renew();
  await settle();
  here.token = of("ben");
  await thread.renew();
  slow(of("carl"));
  await first;
  assert.deepEqual(JSON.parse(thread.owner).at(-1), "ben");
});

test("turns cleared in another tab are not written again", async () => {
  const here = browser();
  const one = await signedIn(here, of("anna"));
  one.ask("hers");
  const socket = here.Sockets.last;
  here.kept.clear();
  one.sync();
  const [{ stream_id }] = socket.of("response.create");
  socket.push({ type: "holdline:queued", response_id: "resp_1", stream_id });
  assert.equal(here.kept.size, 0);
});

test("a prompt that a closed connection refused has failed; the next token sends the next one", async () => {
  const here = browser();
  const thread = here.tab();
  thread.ask("refused");
  await settle();
  here.Sockets.last.welcome();
  const answers = [];
  thread.addEventListener("answer", ({ detail }) => answers.push(detail.status));
  here.Sockets.last.drop(4401, "no token");
  await settle();
  assert.deepEqual([thread.state, thread.active, answers], ["closed", undefined, ["failed"]]);
  here.token = of("anna");
  await thread.renew();
  here.Sockets.last.welcome();
  thread.ask("next");
  assert.deepEqual(sent(here).at(-1), [of("anna"), "next"]);
});

test("without a signed-in user the thread connects for a prompt only, and again when a token exists", async () => {
  const here = browser();
  const thread = here.tab();
  const states = [];
  thread.addEventListener("state", () => states.push(thread.state));
  thread.start();
  await settle();
  assert.deepEqual([here.Sockets.made.length, thread.state, states], [0, "closed", ["closed"]]);
  here.token = of("anna");
  thread.start();
  await settle();
  here.Sockets.last.welcome();
  assert.deepEqual([sent(here), states], [[[here.token]], ["closed", "connecting", "open"]]);
  here.token = null; // the user signs out, and the page does not call `logout`
  here.Sockets.last.drop();
  await settle();
  assert.deepEqual([here.Sockets.made.length, thread.state], [1, "closed"]);
  thread.ask("without a token");
  await settle();
  here.Sockets.last.welcome();
  assert.deepEqual(sent(here).at(-1), ["without a token"]);
});

test("a page that uses no tokens, or whose token provider failed, connects without a token", async () => {
  for (const token of [() => undefined, () => Promise.reject(new Error("offline"))]) {
    const here = Object.defineProperty(browser(), "token", { get: token });
    const thread = here.tab("");
    thread.start();
    await settle();
    assert.equal(here.Sockets.made.length, 1);
  }
});
