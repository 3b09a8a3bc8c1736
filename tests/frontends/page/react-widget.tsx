// One widget for each server in the query. Each asks its question as soon as it can.
import { useEffect, useRef, useState } from "react";
import { createRoot } from "react-dom/client";
import { HoldlineChat, type Turn } from "@holdline/client/react";

const query = new URLSearchParams(location.search);

function Asking({ server, number }: { server: string; number: number }) {
  const chat = useRef<any>(null);
  const [turn, setTurn] = useState<Turn | null>(null);
  useEffect(() => {
    const timer = setInterval(() => chat.current.send?.(`${query.get("prompt")} run=${number}`) && clearInterval(timer), 50);
    return () => clearInterval(timer);
  }, []);
  return (
    <>
      <HoldlineChat ref={chat} server={server} onAnswer={setTurn} />
      <output data-status={turn?.status}>{turn?.text}</output>
    </>
  );
}

createRoot(document.getElementById("root")!).render(
  <>{query.getAll("server").map((server, number) => <Asking key={server} server={server} number={number} />)}</>,
);
