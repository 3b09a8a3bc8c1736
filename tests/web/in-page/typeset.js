/* Runs inside a page: typesets formulas, lays them out, and returns each result. */
async ([url, formulas]) => {
  const { typeset } = await import(url);
  const place = document.createElement("div");
  document.body.append(place);
  return formulas.map((tex) => {
    const began = performance.now();
    let math = null;
    try {
      math = typeset(tex, true);
    } catch { /* The typesetter refused the formula. */ }
    if (math) place.append(math);
    const { width, height } = place.getBoundingClientRect();
    const all = math ? [math, ...math.querySelectorAll("*")] : [];
    const inner = math?.firstChild.firstChild.getBoundingClientRect();
    math?.remove();
    return {
      refused: math === null, markup: math?.outerHTML, elements: all.length, height, width: inner?.width ?? width,
      attributes: [...new Set(all.flatMap((node) => node.getAttributeNames()))], ms: performance.now() - began,
    };
  });
}
