// @ts-check
/** Finds the elements of our own pages. */

/** Returns the element with this id. Throws an error if the page has no such element of this kind.
 * @template {HTMLElement} T @param {string} id @param {new () => T} kind @returns {T}
 */
export function byId(id, kind) {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`the page has no element with the id ${id}`);
  return found;
}
