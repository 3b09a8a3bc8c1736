// One assistant for each server in the query. Each asks its question when it is mounted.
import { useEffect } from "react";
import { createRoot } from "react-dom/client";
import { AssistantRuntimeProvider } from "@assistant-ui/react";
import { useChatRuntime } from "@assistant-ui/react-ai-sdk";
import { HoldlineChatTransport } from "@holdline/client/ai-sdk";
import { Thread } from "./Documented1";

const query = new URLSearchParams(location.search);
const servers = query.getAll("server").map((server) => ({ server, transport: new HoldlineChatTransport({ server }) }));

function Asking({ transport, number }: { transport: HoldlineChatTransport; number: number }) {
  const runtime = useChatRuntime({ transport });
  useEffect(() => void runtime.thread.append(`${query.get("prompt")} run=${number}`), [runtime]);
  return <AssistantRuntimeProvider runtime={runtime}><section><Thread /></section></AssistantRuntimeProvider>;
}

createRoot(document.getElementById("root")!).render(
  <>{servers.map(({ server, transport }, number) => <Asking key={server} transport={transport} number={number} />)}</>,
);
