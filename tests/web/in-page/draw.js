/* Runs inside a page: draws answers, complete or as they grow, and returns the results. */
async ([answers, chunk]) => {
  const { Markdown } = await import("/web/markdown.js");
  const { STATUS } = await import("/web/status.js");
  const place = document.createElement("div");
  document.body.append(place);
  const drawn = [];
  for (const answer of answers) {
    const text = document.createElement("div");
    place.append(text);
    const markdown = new Markdown(text, STATUS);
    if (chunk > 0) {
      for (let end = 0; end < answer.length; end += chunk) markdown.show(answer.slice(0, end), false);
    }
    await new Promise((resolve) => {
      markdown.onshown = resolve;
      markdown.show(answer, true);
    });
    drawn.push(text.innerHTML);
  }
  return drawn;
}
