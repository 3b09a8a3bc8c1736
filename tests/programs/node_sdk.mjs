// Runs the official Node SDK with only the server's base URL. Prints the results as JSON.
import OpenAI from "openai";
import { ResponsesWS } from "openai/resources/responses/ws";

const client = new OpenAI({ baseURL: process.env.BASE_URL, apiKey: "any", maxRetries: 0 });
const [asked, streamed, over, called, chatted] = process.argv.slice(2);
const model = "m";

const plain = await client.responses.create({ model, input: asked });
const again = await client.responses.retrieve(plain.id);

const stream = client.responses.stream({ model, input: streamed });
let text = "";
stream.on("response.output_text.delta", (event) => (text += event.delta));
const final = await stream.finalResponse();

const later = await client.responses.create({ model, input: streamed, background: true });
const kinds = [];
for await (const event of await client.responses.retrieve(later.id, { stream: true, starting_after: 1 })) {
  kinds.push(event.type);
}

const weather = {
  type: "function",
  name: "weather",
  parameters: { type: "object", properties: { location: { type: "string" } } },
  strict: false,
};
const first = await client.responses.create({ model, input: called, tools: [weather] });
const [call] = first.output;
const second = await client.responses.create({
  model,
  previous_response_id: first.id,
  input: [{ type: "function_call_output", call_id: call.call_id, output: `Rain: ${call.arguments}` }],
});

const messages = [{ role: "user", content: chatted }];
const chat = client.chat.completions.stream({ model, messages });
const completion = await chat.finalChatCompletion();

const socket = new ResponsesWS(client);
let heard = "";
const told = [];
const ended = await new Promise((resolve, reject) => {
  socket.on("error", reject);
  socket.on("event", (event) => told.push(event.type));
  socket.on("response.output_text.delta", (event) => (heard += event.delta));
  socket.on("response.completed", (event) => resolve(event.response));
  socket.send({ type: "response.create", model, input: over });
});
socket.close();

console.log(
  JSON.stringify({
    plain: plain.output_text,
    again: again.output_text,
    streamed: text,
    final: final.output_text,
    kinds,
    loop: second.output_text,
    chat: completion.choices[0].message.content,
    heard,
    told,
    ended: ended.status,
  }),
);
