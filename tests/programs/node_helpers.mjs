// The official Node SDK with conversations, compaction, counts of tokens, steers and its tool runner.
// The argument is a JSON object with the prompts of each part. Prints the results as JSON.
import OpenAI from "openai";
import { ResponsesToolRunner } from "openai/helpers/responses-tool-runner";
import { ResponsesWS } from "openai/resources/responses/ws";

const client = new OpenAI({ baseURL: process.env.BASE_URL, apiKey: "any", maxRetries: 0 });
const message = (content) => ({ type: "message", role: "user", content });
const said = ({ output }) => output.flatMap(({ content = [] }) => content.map(({ text }) => text)).join("");
const weather = {
  type: "function",
  name: "weather",
  parameters: { type: "object", properties: { location: { type: "string" } } },
  strict: false,
};

const parts = {
  async conversations(model, added, prompt) {
    const { conversations } = client;
    const made = await conversations.create({ items: [message(added)], metadata: { topic: "demo" } });
    const updated = await conversations.update(made.id, { metadata: { topic: "other" } });
    const answer = await client.responses.create({ model, input: prompt, conversation: made.id });
    const more = await conversations.items.create(made.id, { items: [message("more")] });
    const [item] = more.data;
    const found = await conversations.items.retrieve(item.id, { conversation_id: made.id });
    const listed = [];
    const pages = { order: "asc", limit: 2 };
    for await (const { content } of conversations.items.list(made.id, pages)) listed.push(content[0].text);
    await conversations.items.delete(item.id, { conversation_id: made.id });
    const left = (await conversations.items.list(made.id)).data.length;
    const { deleted } = await conversations.delete(made.id);
    const gone = await conversations.retrieve(made.id).catch((error) => error.code);
    return {
      topics: [made.metadata.topic, updated.metadata.topic],
      answer: answer.output_text,
      found: found.content[0].text,
      listed,
      left,
      deleted,
      gone,
    };
  },

  async compact(model, prompt, next) {
    const first = await client.responses.create({ model, input: prompt });
    const compacted = await client.responses.compact({ model, previous_response_id: first.id });
    const input = [...compacted.output, message(next)];
    const answer = await client.responses.create({ model, input });
    return { items: compacted.output.map(({ type }) => type), answer: answer.output_text };
  },

  async count(model) {
    const counts = [];
    for (const length of [400, 4000]) {
      const count = await client.responses.inputTokens.count({ model, input: "x".repeat(length) });
      counts.push(count.input_tokens);
    }
    return counts;
  },

  // Steers a response as soon as it has text. Returns the two responses, and the types of the events.
  steer(model, prompt, steered) {
    const socket = new ResponsesWS(client);
    const kinds = [];
    const responses = [];
    return new Promise((resolve, reject) => {
      socket.on("error", reject);
      socket.on("event", ({ type }) => kinds.push(type));
      socket.once("response.created", ({ response: { id } }) =>
        socket.once("response.output_text.delta", () =>
          socket.send({ type: "response.steer", previous_response_id: id, input: steered }),
        ),
      );
      socket.on("response.incomplete", ({ response }) => responses.push(response));
      socket.on("response.completed", ({ response }) => {
        responses.push(response);
        resolve({ responses, kinds, texts: responses.map(said) });
      });
      socket.send({ type: "response.create", model, input: prompt });
    }).finally(() => socket.close());
  },

  // Steers a call of a function, then answers the call: the model gets the steer and the result.
  steer_call(model, prompt, steered) {
    const socket = new ResponsesWS(client);
    const tools = [weather];
    let id, owed;
    return new Promise((resolve, reject) => {
      socket.on("error", reject);
      socket.once("response.created", ({ response }) => (id = response.id));
      socket.once("response.function_call_arguments.delta", () =>
        socket.send({ type: "response.steer", previous_response_id: id, input: steered }),
      );
      socket.on("response.steer.pending", ({ required_input }) => {
        [owed] = required_input;
        const input = [{ ...owed, output: "Rain." }];
        socket.send({ type: "response.create", model, tools, previous_response_id: id, input });
      });
      socket.on("response.completed", ({ response }) => {
        if (response.id !== id) resolve({ owed: [owed.type, owed.name], answer: said(response) });
      });
      socket.send({ type: "response.create", model, tools, input: prompt });
    }).finally(() => socket.close());
  },

  // Runs a function, and approves the call of an MCP server. The runner checks all items.
  async runner(model, stream, mcp, prompt) {
    const execute = async ({ location }) => `Rain in ${location}.`;
    const runner = new ResponsesToolRunner({ functions: [{ tool: weather, execute }] });
    const server = {
      type: "mcp",
      server_label: "docs",
      server_url: "https://docs.example",
      require_approval: "always",
    };
    const asked = [];
    const approveMcp = (request) => asked.push([request.server_label, request.name]) > 0;
    const params = { model, input: [message(prompt)], ...(mcp ? { tools: [server] } : {}) };
    const answer = await runner.run(client, params, { stream, approveMcp });
    return { output: answer.output_text, asked };
  },
};

const seen = {};
for (const [part, calls] of Object.entries(JSON.parse(process.argv[2]))) {
  seen[part] = [];
  for (const call of calls) seen[part].push(await parts[part](...call));
}
console.log(JSON.stringify(seen));
