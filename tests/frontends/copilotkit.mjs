// Runs the runtime of CopilotKit with an agent for each server URL, asks each of them through the runtime, and prints the
// answers as JSON. The connections between the runtime and the servers are cut.
import { once } from "node:events";
import { createServer } from "node:http";
import { HttpAgent } from "@ag-ui/client";
import { CopilotRuntime, InMemoryAgentRunner } from "@copilotkit/runtime/v2";
import { createCopilotNodeListener } from "@copilotkit/runtime/v2/node";
import { resumingFetch } from "../../web/ag-ui.js";
import { sha256 } from "./sha256.mjs";

const [prompt, ...urls] = process.argv.slice(2);
const agents = Object.fromEntries(
  urls.map((url, number) => [`agent-${number}`, new HttpAgent({ url: `${url}/v1/ag-ui`, fetch: resumingFetch })]),
);
const runtime = new CopilotRuntime({ agents, runner: new InMemoryAgentRunner() });
const server = createServer(createCopilotNodeListener({ runtime, basePath: "/copilotkit" }));
await once(server.listen(0, "127.0.0.1"), "listening");

async function run(name, number) {
  const agent = new HttpAgent({
    url: `http://127.0.0.1:${server.address().port}/copilotkit/agent/${name}/run`,
    threadId: `copilotkit-${number}`,
    initialMessages: [{ id: "asked", role: "user", content: `${prompt} run=${number}` }],
  });
  let promised;
  await agent.runAgent({}, { onRunFinishedEvent: ({ event }) => void (promised = event.metadata?.sha256) });
  const answers = agent.messages.filter(({ role }) => role === "assistant");
  const text = answers.map(({ content }) => content).join("|");
  return { text, sha256: sha256(text), promised };
}

process.stdout.write(JSON.stringify(await Promise.all(Object.keys(agents).map(run))), () => process.exit(0));
