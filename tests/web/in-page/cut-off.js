/* Runs inside a page: lists the visible elements of the widget that extend beyond the window or the panel. */
() => {
  const root = document.querySelector("holdline-chat").shadowRoot;
  const panel = root.querySelector(".panel").getBoundingClientRect();
  const right = Math.min(innerWidth, panel.right) + 1;
  const left = Math.max(0, panel.left) - 1;
  const scrolls = (node) => node.closest(".code, .table, .unseen");
  return [...root.querySelectorAll(".panel *")]
    .filter((node) => node.checkVisibility() && !scrolls(node))
    .map((node) => [node, node.getBoundingClientRect()])
    .filter(([node, box]) => box.width > 0 && (box.left < left || box.right > right || clipped(node)))
    .map(([node, box]) => `${node.className || node.tagName} ${box.left} to ${box.right}`);

  /** Its text is wider than it, and does not end in dots. */
  function clipped(node) {
    const { overflowX, textOverflow } = getComputedStyle(node);
    return overflowX === "hidden" && textOverflow !== "ellipsis" && node.scrollWidth > node.clientWidth + 1;
  }
}
