// Runs our client once for each server URL, and prints the answers as JSON.
import { HoldlineClient } from "../../web/client.js";
import { sha256 } from "./sha256.mjs";

const [prompt, ...urls] = process.argv.slice(2);

async function run(url, number) {
  const client = new HoldlineClient(`${url.replace("http", "ws")}/v1/responses`);
  const handle = client.ask({ input: `${prompt} run=${number}` });
  const { status, text } = await handle.done;
  client.close();
  return { status, text, sha256: sha256(text), promised: handle.answer.trailer.sha256 };
}

console.log(JSON.stringify(await Promise.all(urls.map(run))));
