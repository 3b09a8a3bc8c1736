// Runs the Vercel AI SDK with its OpenAI provider. Prints the results as JSON.
import { createOpenAI } from "@ai-sdk/openai";
import { generateObject, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const openai = createOpenAI({ baseURL: process.env.BASE_URL, apiKey: "any" });
const [asked, streamed, called, shaped, chatted] = process.argv.slice(2);
const common = { model: openai.responses("m"), maxRetries: 0 };

const plain = await generateText({ ...common, prompt: asked });
const stream = streamText({ ...common, prompt: streamed });
let text = "";
for await (const piece of stream.textStream) text += piece;

const weather = tool({
  description: "The weather at a place.",
  inputSchema: z.object({ location: z.string() }),
  execute: async ({ location }) => `Rain in ${location}.`,
});
const loop = await generateText({
  ...common,
  prompt: called,
  tools: { weather },
  stopWhen: stepCountIs(3),
});
const { object } = await generateObject({
  ...common,
  prompt: shaped,
  schema: z.object({ city: z.string() }),
});
const older = await generateText({
  ...common,
  model: openai.chat("m"),
  prompt: chatted,
  tools: { weather },
  stopWhen: stepCountIs(3),
});

console.log(
  JSON.stringify({
    plain: plain.text,
    reason: plain.finishReason,
    streamed: text,
    usage: await stream.totalUsage,
    loop: loop.text,
    steps: loop.steps.length,
    object,
    older: older.text,
  }),
);
