// Streams an answer that restarts or continues, with the Agents SDK, the AI SDK and the Node SDK in
// two ways. The arguments are a prompt for each way. Prints what each way shows, as JSON.
import { createOpenAI } from "@ai-sdk/openai";
import { Agent, OpenAIResponsesModel, run, setTracingDisabled } from "@openai/agents";
import { streamText } from "ai";
import OpenAI from "openai";

setTracingDisabled(true);
const settings = { baseURL: process.env.BASE_URL, apiKey: "any" };
const client = new OpenAI({ ...settings, maxRetries: 0 });
const openai = createOpenAI(settings);
const model = "m";

async function joined(pieces) {
  let text = "";
  for await (const piece of pieces) text += piece;
  return text;
}

async function agents(prompt) {
  const agent = Agent.create({ name: "a", model: new OpenAIResponsesModel(client, model) });
  const result = await run(agent, prompt, { stream: true });
  const streamed = await joined(result.toTextStream());
  await result.completed;
  return { streamed, final: result.finalOutput };
}

async function ai(prompt) {
  const result = streamText({ model: openai.responses(model), maxRetries: 0, prompt });
  return { streamed: await joined(result.textStream), final: await result.text };
}

// Starts again at the announcement of a restart.
async function events(prompt) {
  let [streamed, id] = ["", ""];
  for await (const event of await client.responses.create({ model, input: prompt, stream: true })) {
    if (event.type === "response.created") id = event.response.id;
    if (event.type === "holdline:restarted") streamed = "";
    if (event.type === "response.output_text.delta") streamed += event.delta;
  }
  return { streamed, final: (await client.responses.retrieve(id)).output_text };
}

// The helper of the SDK receives the announcement of a restart as a `keepalive` with an `attempt`
// and without `at`.
async function helper(prompt) {
  const stream = client.responses.stream({ model, input: prompt });
  let [streamed, cleared] = ["", ""];
  stream.on("event", (event) => {
    if (event.type === "keepalive" && event.attempt && !("at" in event)) cleared = "";
  });
  stream.on("response.output_text.delta", ({ delta }) => {
    streamed += delta;
    cleared += delta;
  });
  const final = (await stream.finalResponse()).output_text;
  return { streamed, cleared, final };
}

const ways = [agents, ai, events, helper];
const shown = await Promise.all(ways.map((way, index) => way(process.argv[index + 2])));
console.log(JSON.stringify(shown));
