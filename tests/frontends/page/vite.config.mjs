import { readdirSync } from "node:fs";
import { defineConfig } from "vite";

const pages = readdirSync(import.meta.dirname).filter((name) => name.endsWith(".html"));

export default defineConfig({
  // The npm package is a link to a folder, from which no other package can be found.
  resolve: { dedupe: ["react"] },
  esbuild: { jsx: "automatic" },
  build: { target: "es2022", minify: false, rolldownOptions: { input: pages } },
});
