// The Vercel AI SDK with a conversation, the tools of a provider and custom tools.
// The argument is a JSON object with the prompts of each part. Prints the results as JSON.
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, isStepCount, streamText, tool } from "ai";
import { z } from "zod";

const openai = createOpenAI({ baseURL: process.env.BASE_URL, apiKey: "any" });
const weather = tool({
  description: "The weather at a place.",
  inputSchema: z.object({ location: z.string() }),
  execute: async ({ location }) => `Rain in ${location}.`,
});

// Runs up to three steps with streaming. Returns the text, the messages to send back, and the parts.
async function streamed(model, options) {
  const result = streamText({
    model: openai.responses(model),
    maxRetries: 0,
    stopWhen: isStepCount(3),
    ...options,
  });
  const parts = [];
  for await (const { content } of await result.steps) parts.push(...content);
  return { text: await result.text, parts, messages: (await result.steps).flatMap((s) => s.response.messages) };
}

const user = (content) => ({ role: "user", content });
const options = (settings) => ({ providerOptions: { openai: settings } });

async function post(path, body) {
  const response = await fetch(`${process.env.BASE_URL}${path}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  return response.json();
}

const parts = {
  // Each turn sends only its own message: the server keeps the conversation.
  async conversation(model, prompts) {
    const { id } = await post("/conversations", {});
    const outputs = [];
    for (const prompt of prompts) {
      const { text } = await generateText({
        model: openai.responses(model),
        maxRetries: 0,
        prompt,
        tools: { weather },
        stopWhen: isStepCount(3),
        ...options({ conversation: id }),
      });
      outputs.push(text);
    }
    const items = await fetch(`${process.env.BASE_URL}/conversations/${id}/items?order=asc`);
    return { outputs, items: (await items.json()).data.map((item) => item.type) };
  },

  // The second turn sends the items of the first one, as references if the server stores them.
  async hosted(model, store, prompts) {
    const tools = {
      search: openai.tools.webSearch({ searchContextSize: "low" }),
      files: openai.tools.fileSearch({ vectorStoreIds: ["vs_1"] }),
      python: openai.tools.codeInterpreter(),
      draw: openai.tools.imageGeneration({ partialImages: 1 }),
    };
    const settings = { tools, ...options({ store, include: ["reasoning.encrypted_content"] }) };
    const first = await streamed(model, { prompt: prompts[0], ...settings });
    const messages = [user(prompts[0]), ...first.messages, user(prompts[1])];
    const second = await streamed(model, { messages, ...settings });
    const results = first.parts.filter(({ type }) => type === "tool-result");
    return {
      outputs: [first.text, second.text],
      results: Object.fromEntries(results.map(({ toolName, output }) => [toolName, output])),
      kinds: first.parts.map(({ type }) => type),
    };
  },

  async custom(model, store, prompt) {
    const inputs = [];
    const sql = openai.tools.customTool({
      description: "Runs SQL.",
      format: { type: "grammar", syntax: "regex", definition: "select_.+" },
      execute: async (input) => {
        inputs.push(input);
        return "two rows";
      },
    });
    const { text } = await streamed(model, { prompt, tools: { sql }, ...options({ store }) });
    return { text, inputs };
  },

  // Answers the request to approve a call, in a second request with the messages of the first one.
  async mcp(model, approved, prompt) {
    const docs = openai.tools.mcp({
      serverLabel: "docs",
      serverUrl: "https://docs.example",
      headers: { Authorization: "Bearer of-the-server" },
      requireApproval: "always",
    });
    const settings = { tools: { docs } };
    const first = await streamed(model, { prompt, ...settings });
    const { approvalId, toolCall } = first.parts.find(({ type }) => type === "tool-approval-request");
    const answer = { type: "tool-approval-response", approvalId, approved, providerExecuted: true };
    const messages = [user(prompt), ...first.messages, { role: "tool", content: [answer] }];
    const second = await streamed(model, { messages, ...settings });
    return { output: second.text, request: [toolCall.toolName, toolCall.input] };
  },

  async refused(model, prompt) {
    const tools = { search: openai.tools.webSearch() };
    const refusal = generateText({ model: openai.responses(model), maxRetries: 0, prompt, tools });
    return refusal.then(
      () => "",
      (error) => error.message,
    );
  },
};

const seen = {};
for (const [part, calls] of Object.entries(JSON.parse(process.argv[2]))) {
  seen[part] = [];
  for (const call of calls) seen[part].push(await parts[part](...call));
}
console.log(JSON.stringify(seen));
