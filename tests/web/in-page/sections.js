/* Runs inside a page: shows a code review that arrives in pieces. */
async () => {
  const { ReviewView } = await import("/web/review-view.js");
  const { ResponseState } = await import("/web/response-state.js");
  const view = new ReviewView();
  view.setCode("a\nb\nc\nd", "python", { diff: false, label: "code" });
  document.body.replaceChildren(view.element);
  const answer = Object.assign(new ResponseState("resp_1"), { status: "in_progress", attempts: 1 });
  const handle = { answer, stopping: false, busy: false, verified: null, request: {} };
  const text = "# A review\n\nHello.\n\n## Improvements\n\n- L1: name it\n- no line\n\n## Complexity\n\nFlat, see lines 2 to 3.\n\n"
    + "## Bugs\n\n- L4 (high): no `<b>`\n\n  ```\n  - L2: code\n  ```\n- **L9-12 (medium)**: there is no such line\n- HTML5 and L99 are fine\n";
  window.states = [];
  for (let end = 1; end <= text.length; end++) {
    answer.items.set(0, { id: "i", texts: [text.slice(0, end)] });
    view.show(handle, "open");
    states.push([...document.querySelectorAll(".card")].map(card => card.dataset.state === 'done' ? 'd' : 'w').join(""));
  }
  answer.status = "completed";
  view.show(handle, "open");
}
