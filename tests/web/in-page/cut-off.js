/* Runs inside a page: lists the widget's visible elements that extend beyond the window or the panel. */
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

  /** Returns whether the element's text is cut off without an ellipsis. */
  function clipped(node) {
    const { overflowX, textOverflow } = getComputedStyle(node);
    return overflowX === "hidden" && textOverflow !== "ellipsis" && node.scrollWidth > node.clientWidth + 1;
  }
}
