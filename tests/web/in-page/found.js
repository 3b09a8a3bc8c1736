/* Runs inside a page: lists the forbidden elements and attributes in an answer. */
() => [...document.body.lastElementChild.querySelectorAll("*")].flatMap(node => [
  ...(["A", "P", "DIV", "SPAN", "PRE", "CODE", "UL", "OL", "LI", "TABLE", "TR", "TH", "TD", "BLOCKQUOTE",
    "STRONG", "EM", "DEL", "BR", "HR", "H3", "H4", "H5", "H6", "BUTTON"].includes(node.tagName) ? [] : [node.tagName]),
  ...node.getAttributeNames().filter(name => name.startsWith("on") || name === "src" || name === "srcdoc"
    || (name === "style" && !/^text-align: (left|right|center);$/.test(node.getAttribute("style")))),
  ...(node.tagName === "A" && !/^(https?|mailto|tel):/.test(node.href) ? [node.href] : []),
  ...(node.tagName === "A" && node.rel !== "noopener noreferrer nofollow" ? [node.rel] : []),
])
