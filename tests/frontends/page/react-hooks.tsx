// One client for each server in the query. Each asks its question when it is mounted.
import { useEffect, useState } from "react";
import { createRoot } from "react-dom/client";
import { useAnswer, useHoldlineClient } from "@holdline/client/react";

const query = new URLSearchParams(location.search);

function Asking({ server, number }: { server: string; number: number }) {
  const client = useHoldlineClient(new URL("v1/responses", server).href);
  const [handle, setHandle] = useState<Parameters<typeof useAnswer>[0]>(null);
  const answer = useAnswer(handle);
  useEffect(() => setHandle(client && client.ask({ input: `${query.get("prompt")} run=${number}` })), [client]);
  return <output data-status={answer?.verified ? answer.status : null}>{answer?.text}</output>;
}

createRoot(document.getElementById("root")!).render(
  <>{query.getAll("server").map((server, number) => <Asking key={server} server={server} number={number} />)}</>,
);
