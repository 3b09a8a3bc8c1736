import { StrictMode, useEffect, useRef, useState } from "react";
import { createRoot } from "react-dom/client";
import type { AnswerHandle } from "@holdline/client";
import { HoldlineChat, useAnswer, useHoldlineClient, type Turn } from "@holdline/client/react";
import type { HoldlineChat as ChatElement } from "@holdline/client/widget";

const server = new URLSearchParams(location.search).get("server") ?? "/";

function Answer() {
  const client = useHoldlineClient(new URL("v1/responses", server).href);
  const [handle, setHandle] = useState<AnswerHandle | null>(null);
  const answer = useAnswer(handle);
  useEffect(() => setHandle(client && client.ask({ input: "mode=ok tokens=5" })), [client]);
  return <output data-status={answer?.status} data-verified={String(answer?.verified)}>{answer?.text}</output>;
}

function App() {
  const chat = useRef<ChatElement>(null);
  const [turns, setTurns] = useState<Turn[]>([]);
  return (
    <>
      <HoldlineChat ref={chat} server={server} heading="Help" suggestions={["mode=ok tokens=3"]} lang="de"
        request={{ temperature: 0 }} onAnswer={(turn) => setTurns((before) => [...before, turn])} />
      <button onClick={() => chat.current?.send("mode=ok tokens=4")}>ask</button>
      <ul>{turns.map((turn) => <li key={turn.responseId}>{turn.status}: {turn.text}</li>)}</ul>
      <Answer />
    </>
  );
}

createRoot(document.getElementById("root")!).render(<StrictMode><App /></StrictMode>);
