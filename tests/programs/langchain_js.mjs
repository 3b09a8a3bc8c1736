// Runs LangChain JS over both APIs with its own retries. Prints the results as JSON.
import { tool } from "@langchain/core/tools";
import { ChatOpenAI } from "@langchain/openai";
import { z } from "zod";

const weather = tool(async ({ location }) => `Rain in ${location}.`, {
  name: "weather",
  description: "The weather at a place.",
  schema: z.object({ location: z.string() }),
});

async function see(useResponsesApi, [asked, streamed, called, shaped, narrow]) {
  const configuration = { baseURL: process.env.BASE_URL };
  const llm = new ChatOpenAI({ model: "m", apiKey: "any", configuration, useResponsesApi });
  const plain = await llm.invoke(asked);

  let text = "";
  for await (const piece of await llm.stream(streamed)) text += piece.text;

  const messages = [{ role: "user", content: called }];
  const first = await llm.bindTools([weather]).invoke(messages);
  messages.push(first, await weather.invoke(first.tool_calls[0]));
  const loop = await llm.bindTools([weather]).invoke(messages);

  const object = await llm.withStructuredOutput(z.object({ city: z.string() })).invoke(shaped);

  const { status, message } = await llm.invoke(narrow).catch((error) => error);
  return {
    plain: plain.text,
    usage: plain.usage_metadata,
    streamed: text,
    loop: loop.text,
    object,
    failure: { status, message },
  };
}

const prompts = process.argv.slice(2);
console.log(
  JSON.stringify({
    chat: await see(false, prompts.slice(0, prompts.length / 2)),
    responses: await see(true, prompts.slice(prompts.length / 2)),
  }),
);
