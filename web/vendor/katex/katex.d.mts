/** Of KaTeX, what we use; this file is ours. */

/** A node of the tree that KaTeX builds: an element, a text, a space, or a fragment. */
export type Tree = {
  type?: string; attributes?: { [name: string]: string }; classes?: string[]; children?: Tree[];
  text?: string; width?: number;
};

export function __renderToDomTree(tex: string, options: object): Tree;
