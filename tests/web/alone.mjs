/*
 * Sends a prompt with the client outside a page, closes its socket mid-answer, and prints the
 * answer. Usage: `node alone.mjs URL PROMPT`.
 */
import { HoldlineClient } from "../../web/client.js";

const [url, prompt] = process.argv.slice(2);
/** @type {WebSocket[]} */
const sockets = [];
class Cut extends WebSocket {
  constructor(address, protocol) {
    super(address, protocol);
    sockets.push(this);
  }
}
const client = new HoldlineClient(url, { WebSocket: Cut });
const handle = client.ask({ input: prompt });
let cut = false;
handle.addEventListener("change", () => {
  if (cut || !handle.answer.text.includes("t5 ")) return;
  cut = true;
  sockets[0].close();
});
const answer = await handle.done;
client.close();
console.log(JSON.stringify({
  text: answer.text, status: answer.status, verified: handle.verified, sockets: sockets.length,
  version: process.versions.node,
}));
