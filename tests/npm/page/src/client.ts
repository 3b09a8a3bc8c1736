import { attachPage, HoldlineClient } from "@holdline/client";

const client = new HoldlineClient(new URL("v1/responses", new URLSearchParams(location.search).get("server") ?? "/").href);
attachPage(client, window);
const handle = client.ask({ input: "mode=ok tokens=5" });
const answer = await handle.done;
document.querySelector("output")!.textContent = `${answer.status}: ${answer.text}`;
