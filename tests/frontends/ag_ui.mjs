// Runs an agent of AG-UI once for each server URL, and prints the answers as JSON. An agent with a plain `fetch` has to
// repeat a run after a lost connection. With one of our functions, over HTTP ("holdline") or a WebSocket ("socket"), it does
// not notice a lost connection. "reload" repeats the run with a new agent.
import { HttpAgent } from "@ag-ui/client";
import { resumingFetch, socketFetch } from "../../web/ag-ui.js";
import { sha256 } from "./sha256.mjs";

const [kind, prompt, ...urls] = process.argv.slice(2);
const OURS = { holdline: resumingFetch, socket: socketFetch };
console.warn = () => {}; // the agent's warnings about the errors that it throws as well

async function run(url, number) {
  const config = { url: `${url}/v1/ag-ui`, threadId: `${kind}-${number}` };
  if (Object.hasOwn(OURS, kind)) config.fetch = OURS[kind];
  const asked = [{ id: "asked", role: "user", content: `${prompt} run=${number}` }];
  let agent = new HttpAgent({ ...config, initialMessages: asked });
  let promised, resumed = 0;
  for (let ended = false; !ended && resumed < 5; ) {
    const subscriber = { onRunFinishedEvent: ({ event }) => void (promised = event.metadata.sha256) };
    try {
      await agent.runAgent({ runId: `${kind}-run-${number}` }, subscriber);
      ended = promised !== undefined;
    } catch {}
    if (ended) break;
    resumed++;
    if (kind === "reload") agent = new HttpAgent({ ...config, initialMessages: agent.messages });
  }
  const answers = agent.messages.filter(({ role }) => role === "assistant");
  const text = answers.map(({ content }) => content).join("|");
  return { resumed, text, sha256: sha256(text), promised };
}

// The agent also throws a lost connection where no program can catch it.
process.on("uncaughtException", (error) => error.message === "terminated" || process.exit(1));
console.error = () => {};
console.log(JSON.stringify(await Promise.all(urls.map(run))));
