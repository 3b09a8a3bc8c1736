// The Vercel AI SDK with its OpenAI provider. Prints what it saw as JSON.
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, streamText } from "ai";

const openai = createOpenAI({ baseURL: process.env.BASE_URL, apiKey: "any" });
const [asked, streamed] = process.argv.slice(2);

const plain = await generateText({ model: openai.responses("m"), prompt: asked, maxRetries: 0 });
const stream = streamText({ model: openai.responses("m"), prompt: streamed, maxRetries: 0 });
let text = "";
for await (const piece of stream.textStream) text += piece;

console.log(
  JSON.stringify({
    plain: plain.text,
    reason: plain.finishReason,
    streamed: text,
    usage: await stream.totalUsage,
    warnings: plain.warnings,
  }),
);
