/* Runs inside a page: shows a code review that arrives in pieces. */
async () => {
  const { ReviewView } = await import("/web/review-view.js");
  const { SnippetView } = await import("/web/snippet-view.js");
  const { ResponseState } = await import("/web/response-state.js");
  const snippet = new SnippetView("a\nb\nc\nd", "python");
  const view = new ReviewView((first, last) => snippet.mark(first, last));
  document.body.replaceChildren(snippet.element, view.element);
  const answer = Object.assign(new ResponseState("resp_1"), { status: "in_progress", attempts: 1 });
  const handle = { answer, stopping: false, busy: false, verified: null, request: {} };
  const text = "# A review\n\nHello.\n\n## Improvements\n\n- L1: name it\n\n## Complexity\n\nFlat, see lines 2 to 3.\n\n"
    + "## Bugs\n\n- L4: no `<b>`\n- HTML5 and L99 are fine\n";
  window.states = [];
  for (let end = 1; end <= text.length; end++) {
    answer.items.set(0, { id: "i", texts: [text.slice(0, end)] });
    view.show(handle, "open");
    states.push([...document.querySelectorAll(".card")].map(card => card.dataset.state === 'done' ? 'd' : 'w').join(""));
  }
  answer.status = "completed";
  view.show(handle, "open");
}
