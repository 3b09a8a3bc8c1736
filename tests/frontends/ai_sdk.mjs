// Runs the chat of `useChat` once for each server URL, and prints the answers as JSON. A chat with the transport of the AI
// SDK has to resume after a lost connection; with ours it does not notice one. "reload" resumes in a new chat.
import { Chat } from "@ai-sdk/react";
import { DefaultChatTransport } from "ai";
import { HoldlineChatTransport } from "../../web/ai-sdk.js";
import { sha256 } from "./sha256.mjs";

const [transportName, prompt, ...urls] = process.argv.slice(2);
const textOf = (message) => message.parts.filter(({ type }) => type === "text").map(({ text }) => text).join("");

function transportTo(url) {
  if (transportName === "holdline") return new HoldlineChatTransport({ server: url });
  return new DefaultChatTransport({ api: `${url}/v1/ai-sdk` });
}

async function run(url, number) {
  const transport = transportTo(url);
  const id = `${transportName}-${number}`;
  let chat = new Chat({ id, transport });
  await chat.sendMessage({ text: `${prompt} run=${number}` });
  const first = chat.status;
  let resumed = 0;
  for (; chat.status === "error" && resumed < 5; resumed++) {
    if (transportName === "reload") chat = new Chat({ id, transport, messages: chat.messages });
    await chat.resumeStream();
  }
  const answers = chat.messages.filter(({ role }) => role === "assistant");
  const { text, metadata } = { text: answers.map(textOf).join("|"), metadata: answers.at(-1)?.metadata };
  return { first, resumed, status: chat.status, text, sha256: sha256(text), promised: metadata?.sha256 };
}

console.log(JSON.stringify(await Promise.all(urls.map(run))));
