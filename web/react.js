// @ts-check
/**
 * The React components and hooks of the npm package `@holdline/client`; see `docs/javascript.md`. The server does not use
 * this module. It can be imported on a server that renders React: browsers load the widget after the first render.
 */

import { createElement, forwardRef, useCallback, useEffect, useImperativeHandle, useRef, useState, useSyncExternalStore } from "react";
import { attachPage, HoldlineClient } from "./client.js";

/** @typedef {import("./answer-handle.js").AnswerHandle} AnswerHandle */
/** @typedef {import("./chat-widget.js").HoldlineChat} Element */
/** @typedef {import("./chat-widget.js").TokenProvider} TokenProvider */
/** @typedef {import("./response-state.js").Failure} Failure */
/** @typedef {import("./response-state.js").Status} Status */

/** A turn of the conversation. @typedef {{prompt: string, text: string, status: string, responseId: string | null}} Turn */

/**
 * The properties of `HoldlineChat`. `docs/widget.md` describes the attributes, properties and events of the same names.
 * @typedef {{
 *   server?: string, heading?: string, greeting?: string, opening?: string, placeholder?: string,
 *   suggestions?: string[], followUps?: string[], assistantName?: string, userName?: string,
 *   attachments?: boolean, conversations?: boolean, accept?: string, feedback?: boolean, children?: import("react").ReactNode,
 *   mode?: "inline" | "floating", theme?: string, font?: string, lang?: string,
 *   model?: string, instructions?: string, prompt?: string,
 *   conversation?: string, user?: string, storage?: "local" | "session" | "none",
 *   open?: boolean, tokenProvider?: TokenProvider, request?: object, tools?: import("./replier.js").PageTool[], words?: object,
 *   className?: string, style?: import("react").CSSProperties,
 *   onOpen?: () => void, onClose?: () => void, onLogout?: () => void,
 *   onMessage?: (turn: Turn) => void, onAnswer?: (turn: Turn) => void,
 *   onFeedback?: (feedback: Turn & {rating: "up" | "down" | null, comment: string}) => void,
 *   onTool?: (call: {name: string, arguments: string, callId: string, responseId: string | null, respond: (result: unknown) => void}) => void,
 *   onState?: (change: {state: string}) => void, onError?: (error: {status: string, [name: string]: unknown}) => void,
 * }} HoldlineChatProps
 */

/** The events of the element, and the properties with their handlers. @type {[string, keyof HoldlineChatProps][]} */
const EVENTS = [
  ["open", "onOpen"], ["close", "onClose"], ["logout", "onLogout"], ["message", "onMessage"], ["answer", "onAnswer"],
  ["feedback", "onFeedback"], ["tool", "onTool"], ["state", "onState"], ["error", "onError"],
];

/**
 * The widget as a component. A ref receives the element, with its methods `open`, `close`, `send`, `attach`, `stop`, `clear` and
 * `logout`. If `open` is omitted, the visitor alone opens and closes a floating widget.
 */
export const HoldlineChat = forwardRef(
  /** @param {HoldlineChatProps} props @param {import("react").ForwardedRef<Element>} ref */
  function HoldlineChat(props, ref) {
    const { open, tokenProvider, request, tools, words, className, style, children, ...rest } = props;
    /** @type {import("react").RefObject<Element | null>} */
    const element = useRef(null);
    const latest = useRef(props);
    useImperativeHandle(ref, () => /** @type {Element} */ (element.current), []);

    useEffect(() => void (latest.current = props));

    // The properties are set before the element is defined, so that its first connection has the token.
    useEffect(() => void (element.current && tokenProvider && (element.current.tokenProvider = tokenProvider)), [tokenProvider]);
    useEffect(() => void (element.current && request && (element.current.request = request)), [request]);
    useEffect(() => void (element.current && tools && (element.current.tools = tools)), [tools]);
    useEffect(() => void (element.current && words && (element.current.words = words)), [words]);
    useEffect(() => void (open !== undefined && element.current?.toggleAttribute("open", open)), [open]);
    useEffect(() => void import("./define.js"), []);

    useEffect(() => {
      const removal = new AbortController();
      for (const [event, name] of EVENTS) {
        element.current?.addEventListener(event, (dispatched) => {
          const handler = /** @type {((detail: any) => void) | undefined} */ (latest.current[name]);
          handler?.(/** @type {CustomEvent} */ (dispatched).detail);
        }, { signal: removal.signal });
      }
      return () => removal.abort();
    }, []);

    // React 18 and 19 differ in how they pass lists and booleans to an element, so all attributes are texts.
    const attributes = Object.fromEntries(Object.entries(rest)
      .filter(([name, value]) => !name.startsWith("on") && (value ?? false) !== false)
      .map(([name, value]) => [
        name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`),
        Array.isArray(value) ? JSON.stringify(value) : value === true ? "" : value,
      ]));
    return createElement("holdline-chat", { ...attributes, ref: element, class: className, style }, children);
  },
);

/**
 * Returns a client that is connected while the component is mounted, or null before the first effect.
 * @param {string} url the address of the socket, or its path on the page's host
 * @param {TokenProvider} [tokenProvider] returns a fresh token for each connection, and again before
 * the server closes a connection whose token expires
 * @returns {HoldlineClient | null}
 */
export function useHoldlineClient(url, tokenProvider) {
  const [client, setClient] = useState(/** @type {HoldlineClient | null} */ (null));
  const latest = useRef(tokenProvider);
  useEffect(() => void (latest.current = tokenProvider));
  useEffect(() => {
    const made = new HoldlineClient(url);
    const authenticate = async () => {
      try {
        const token = await latest.current?.();
        if (token) made.authenticate(token);
      } catch (error) {
        console.error("Holdline: tokenProvider failed", error);
      }
    };
    // The token may have expired, so a fresh one is fetched for the next connection.
    made.addEventListener("state", () => void (made.state === "reconnecting" && authenticate()));
    made.addEventListener("expiring", authenticate);
    void authenticate();
    const detach = attachPage(made, window);
    setClient(made);
    return () => {
      detach();
      made.close();
      setClient(null);
    };
  }, [url]);
  return client;
}

/**
 * Returns the current state of an answer, and renders the component again after each change.
 * @param {AnswerHandle | null} handle the result of `client.ask` or `client.follow`
 * @returns {{text: string, status: Status, ended: boolean, error: Failure | null, stopping: boolean, verified: boolean | null} | null}
 * null without a handle
 */
export function useAnswer(handle) {
  const subscribe = useCallback((/** @type {() => void} */ changed) => {
    handle?.addEventListener("change", changed);
    return () => handle?.removeEventListener("change", changed);
  }, [handle]);
  // The state of an answer changes in place, so the snapshot is a text that differs after each change.
  const snapshot = () => handle && [
    handle.answer.responseId, handle.answer.lastSequenceNumber, handle.answer.status, handle.stopping, handle.verified,
  ].join();
  useSyncExternalStore(subscribe, snapshot, () => null);
  if (!handle) return null;
  const { answer, stopping, verified } = handle;
  return { text: answer.text, status: answer.status, ended: answer.ended, error: answer.error, stopping, verified };
}
