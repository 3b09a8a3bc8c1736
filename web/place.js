// @ts-check
/** Where this code was loaded from, and how more of it is. */

/** The root of the server that served this: without `web/…`, the version in it, and `widget.js`. */
export const HOME = import.meta.url.replace(/\/web\/(?:[\da-f]{16}\/)?[\w-]+\.js$/, "/");

/** Hashes of what is loaded later, where the server has put them in. @type {{[name: string]: string}} */
const INTEGRITY = {};

let failures = 0;

/**
 * A module that is not needed at once. Where its hash is known, nothing else will do: the preload takes the module in
 * with its integrity value, and the import finds it there.
 * @param {string} name
 * @returns {Promise<any>}
 */
export async function load(name) {
  const url = new URL(name, import.meta.url);
  // What has failed once is remembered by its address, and so is what a cache keeps for ever.
  if (failures > 0) url.search = String(failures);
  const integrity = INTEGRITY[name];
  try {
    if (integrity) {
      const link = Object.assign(document.createElement("link"), { rel: "modulepreload", href: url.href, integrity });
      link.crossOrigin = "anonymous";
      await new Promise((resolve, reject) => {
        link.onload = resolve;
        link.onerror = reject;
        document.head.append(link);
      }).finally(() => link.remove());
    }
    return await import(url.href);
  } catch (error) {
    failures += 1;
    throw error;
  }
}

const TRANSLATED = ["ar", "de"];

/** The words of a language, as far as there are any. @param {string} language @returns {Promise<object>} */
export async function wordsOf(language) {
  const short = language.toLowerCase().split("-")[0] ?? "";
  if (!TRANSLATED.includes(short)) return {};
  try {
    return (await load(`words/${short}.js`)).WORDS;
  } catch {
    return {}; // English is better than nothing
  }
}
