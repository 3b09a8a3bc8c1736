// Runs the web client against a server that requires tokens. Usage: `node token.mjs URL`, with one
// token per line on standard input.
import { createInterface } from "node:readline/promises";
import { HoldlineClient } from "../../web/client.js";

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const next = async () => (await lines.next()).value;

const client = new HoldlineClient(process.argv[2]);
client.authenticate(await next());
client.addEventListener("expiring", async () => {
  console.log("expiring");
  client.authenticate(await next());
});
client.addEventListener("state", () => console.log(`state ${client.state} ${client.closed?.code ?? ""}`.trim()));
client.addEventListener("error", (event) => console.log(`error ${event.detail.error.code}`));
const handle = client.ask({ input: "mode=slow tokens=60 pace=0.05" });
await handle.done.catch(() => {});
console.log(`answer ${handle.answer.status}`);
process.exit(0);
