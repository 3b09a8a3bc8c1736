// Runs the program from the section "fetch" of docs/frontends.md once for each server URL. Prints the answers as JSON.
import { readFileSync } from "node:fs";
import { sha256 } from "./sha256.mjs";

const [prompt, ...urls] = process.argv.slice(2);
const document = readFileSync(new URL("../../docs/frontends.md", import.meta.url), "utf8");
const [, program] = document.match(/## fetch\n\n```js\n(.*?)```/s);
const AsyncFunction = (async () => {}).constructor;

async function run(url, number) {
  let text = "";
  const asked = program.replace("http://127.0.0.1:8080", url).replace("Why is the sky blue?", `${prompt} run=${number}`);
  await new AsyncFunction("process", asked)({ stdout: { write: (piece) => (text += piece) } });
  return { text, sha256: sha256(text) };
}

console.log(JSON.stringify(await Promise.all(urls.map(run))));
