// The OpenAI Agents SDK for JavaScript with its sessions, a handoff and hosted tools.
// The argument is a JSON object with the prompts of each part. Prints the results as JSON.
import {
  Agent,
  MemorySession,
  OpenAIConversationsSession,
  OpenAIResponsesCompactionSession,
  OpenAIResponsesModel,
  OpenAIResponsesWSModel,
  codeInterpreterTool,
  fileSearchTool,
  hostedMcpTool,
  imageGenerationTool,
  run,
  setTracingDisabled,
  tool,
  webSearchTool,
} from "@openai/agents";
import OpenAI from "openai";
import { WebSocket } from "ws";
import { z } from "zod";

globalThis.WebSocket ??= WebSocket; // Node.js has none before version 22
setTracingDisabled(true);
const client = new OpenAI({ baseURL: process.env.BASE_URL, apiKey: "any", maxRetries: 0 });
const sockets = [];
const weather = tool({
  name: "weather",
  description: "The weather at a place.",
  parameters: z.object({ location: z.string() }),
  execute: async ({ location }) => `Rain in ${location}.`,
});

function agent(name, model, socket = false, more = {}) {
  const used = socket ? new OpenAIResponsesWSModel(client, model) : new OpenAIResponsesModel(client, model);
  if (socket) sockets.push(used);
  return Agent.create({ name, instructions: `You are ${name}.`, model: used, ...more });
}

// Runs an agent with streaming until it ends.
async function ran(one, prompt, options = {}) {
  const result = await run(one, prompt, { ...options, stream: true });
  for await (const _ of result);
  await result.completed;
  return result;
}

// Returns the types of the items of a session, under their names in the Responses API.
const kinds = (items) => items.map(({ type = "message" }) => type.replace("_call_result", "_call_output"));

const parts = {
  async compacted(model, mode, prompts) {
    const session = new OpenAIResponsesCompactionSession({
      client,
      underlyingSession: new MemorySession(),
      model,
      compactionMode: mode,
      shouldTriggerCompaction: ({ compactionCandidateItems }) => compactionCandidateItems.length > 3,
    });
    const one = agent("compacted", model, false, { tools: [weather] });
    const turns = [];
    for (const prompt of prompts) {
      const result = await ran(one, prompt, { session });
      turns.push([result.finalOutput, kinds(await session.getItems())]);
    }
    return turns;
  },

  async conversation(model, prompts) {
    const session = new OpenAIConversationsSession({ client });
    const one = agent("conversation", model, false, { tools: [weather] });
    const outputs = [];
    for (const prompt of prompts) outputs.push((await ran(one, prompt, { session })).finalOutput);
    const items = kinds(await session.getItems());
    const newest = kinds(await session.getItems(2));
    const popped = await session.popItem();
    const left = kinds(await session.getItems());
    const id = await session.getSessionId();
    await session.clearSession();
    const gone = await client.conversations.retrieve(id).then(
      () => "",
      (error) => error.code,
    );
    return { outputs, items, newest, popped: popped.content[0].text.trim(), left, gone };
  },

  async by_id(model, prompts) {
    const made = await client.conversations.create({});
    const one = agent("by_id", model, false, { tools: [weather] });
    const outputs = [];
    for (const prompt of prompts) {
      outputs.push((await ran(one, prompt, { conversationId: made.id })).finalOutput);
    }
    const items = [];
    for await (const item of client.conversations.items.list(made.id, { order: "asc" })) items.push(item.type);
    return { outputs, items };
  },

  async handoff(model, socket, prompt) {
    const billing = agent("billing", model, socket);
    const result = await ran(agent("triage", model, socket, { handoffs: [billing] }), prompt);
    return [result.finalOutput, result.lastAgent.name];
  },

  async mcp(model, socket, approve, prompt) {
    const requests = [];
    const server = hostedMcpTool({
      serverLabel: "docs",
      serverUrl: "https://docs.example",
      headers: { Authorization: "Bearer of-the-server" },
      requireApproval: "always",
      onApproval: async (_context, { rawItem }) => {
        const { server_label, arguments: args } = rawItem.providerData;
        requests.push([server_label, rawItem.name, rawItem.arguments ?? args]);
        return { approve };
      },
    });
    try {
      const result = await ran(agent("mcp", model, socket, { tools: [server] }), prompt);
      return { output: result.finalOutput, requests };
    } catch (error) {
      return { refused: error.message };
    }
  },

  async hosted(model, prompts) {
    const tools = [
      webSearchTool(),
      fileSearchTool(["vs_1"]),
      codeInterpreterTool(),
      imageGenerationTool(),
    ];
    const include = ["file_search_call.results", "reasoning.encrypted_content"];
    const modelSettings = { store: false, providerData: { include } };
    const one = agent("hosted", model, false, { tools, modelSettings });
    const session = new MemorySession();
    const outputs = [];
    for (const prompt of prompts) outputs.push((await ran(one, prompt, { session })).finalOutput);
    return outputs;
  },
};

const seen = {};
for (const [part, calls] of Object.entries(JSON.parse(process.argv[2]))) {
  seen[part] = [];
  for (const call of calls) seen[part].push(await parts[part](...call));
}
for (const socket of sockets) await socket.close();
console.log(JSON.stringify(seen));
