// @ts-check
/** Determines where this code was loaded from, and loads further modules. */

/** The root URL of the server: the URL of this module without `web/`, the version and the file name. */
export const HOME = import.meta.url.replace(/\/web\/(?:[\da-f]{16}\/)?[\w-]+\.js$/, "/");

/** The integrity values of modules that are loaded later, filled in by the server. @type {{[name: string]: string}} */
const INTEGRITY = {};

let failures = 0;

/**
 * Loads a module on demand. If its integrity value is known, a preload link first fetches the module and checks the value;
 * the import then uses the preloaded module.
 * @param {string} name
 * @returns {Promise<any>}
 */
export async function load(name) {
  const url = new URL(name, import.meta.url);
  // Browsers remember a failed import by its URL, and caches keep responses forever, so a retry needs another URL.
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
