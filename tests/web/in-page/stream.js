/* Runs inside a page: simulates a server that sends 10,000 tokens within the given number of seconds. */
([text, seconds]) => {
  const tokens = text.match(/\s*\w{1,4}|\s*[^\w\s]|\s+/g).slice(0, 10000);
  window.WebSocket = class {
    readyState = 0;
    constructor() {
      setTimeout(() => { this.readyState = 1; this.say({ type: "holdline:welcome", limits: {} }); });
    }
    say(event) { this.onmessage?.({ data: JSON.stringify(event) }); }
    close() {}
    send(data) {
      const { type, id, stream_id } = JSON.parse(data);
      if (type === "holdline:ping") setTimeout(() => this.say({ type: "holdline:pong", id }));
      if (type !== "response.create") return;
      let number = 0;
      const event = (type, more) => this.say({ type, sequence_number: number++, stream_id, ...more });
      const response = { id: "resp_1", status: "in_progress", model: "m" };
      event("response.created", { response });
      event("response.output_item.added", { output_index: 0, item: { id: "i" } });
      let sent = 0;
      const began = performance.now();
      const timer = setInterval(() => {
        const due = Math.min(tokens.length, tokens.length * (performance.now() - began) / 1000 / seconds);
        while (sent < due) {
          event("response.output_text.delta", { output_index: 0, content_index: 0, item_id: "i", delta: tokens[sent++] });
        }
        if (sent < tokens.length) return;
        clearInterval(timer);
        const content = [{ type: "output_text", text: tokens.join("") }];
        event("response.completed", { response: {
          ...response, status: "completed", output: [{ type: "message", id: "i", content }] } });
      }, 10);
    }
  };
  return tokens.length;
}
