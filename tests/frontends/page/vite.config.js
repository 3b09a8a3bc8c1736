import { defineConfig } from "vite";

// The package's modules are those of web/, to which test_pages.py links.
const entry = (name) => ({ find: `@holdline/client/${name}`, replacement: new URL(`web/${name}.js`, import.meta.url).pathname });

export default defineConfig({
  resolve: { alias: ["ai-sdk", "ag-ui"].map(entry) },
  esbuild: { jsx: "automatic" },
  build: { target: "es2022", minify: false, rolldownOptions: { input: ["use-chat.html", "assistant-ui.html", "deep-chat.html"] } },
});
