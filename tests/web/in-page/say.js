/* Runs inside a page: simulates a server that sends the given events and then completes the answer. */
(events) => {
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
      const response = { id: "resp_1", status: "in_progress", model: "m" };
      const output = events.filter(({ type }) => type === "response.output_item.done").map(({ item }) => item);
      const sent = [{ type: "response.created", response }, ...events.filter(({ type }) => type !== "response.created")];
      sent.push({ type: "response.completed", response: { ...response, status: "completed", output } });
      sent.forEach((event, number) => setTimeout(() => this.say({ ...event, sequence_number: number, stream_id }), 10 * number));
    }
  };
}
