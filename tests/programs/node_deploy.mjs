// Runs the official Node SDK while its server restarts. Prints the results as JSON.
import OpenAI from "openai";

const [elsewhereURL, asked, streamed, later] = process.argv.slice(2);
const client = new OpenAI({ baseURL: process.env.BASE_URL, apiKey: "any", maxRetries: 5 });
const elsewhere = new OpenAI({ baseURL: elsewhereURL, apiKey: "any", maxRetries: 0 });
const model = "m";

async function stream() {
  const events = [];
  let raised = null;
  try {
    for await (const event of await client.responses.create({ model, input: streamed, stream: true })) {
      events.push(event);
    }
  } catch (error) {
    raised = { code: error.code, id: error.error?.response_id };
    const last = events.at(-1).sequence_number;
    const rest = await elsewhere.responses.retrieve(raised.id, { stream: true, starting_after: last });
    for await (const event of rest) events.push(event);
  }
  return {
    raised,
    id: events[0].response.id,
    numbers: events.map((event) => event.sequence_number),
    last: events.at(-1).type,
  };
}

async function background() {
  const { id } = await client.responses.create({ model, input: later, background: true });
  for await (const event of await elsewhere.responses.retrieve(id, { stream: true })) {
    if (event.type === "response.completed") return event.response.status;
  }
}

const [plain, live, done] = await Promise.all([
  client.responses.create({ model, input: asked }),
  stream(),
  background(),
]);
console.log(JSON.stringify({ plain: plain.status, stream: live, background: done }));
