/* The script of a minimal test page. It appends received text to a single text node, once per frame. */
() => {
  const log = document.createElement("div");
  const text = document.createTextNode("");
  log.style.cssText = "position: fixed; inset: 0; inline-size: 400px; block-size: 400px; overflow: auto; contain: strict; white-space: pre-wrap";
  log.append(text);
  document.body.append(log);
  let gathered = "";
  let drawing = 0;
  const socket = new WebSocket();
  socket.onmessage = ({ data }) => {
    const { type, delta } = JSON.parse(data);
    if (type === "response.completed") setTimeout(() => log.remove(), 200);
    if (type !== "response.output_text.delta") return;
    gathered += delta;
    drawing ||= requestAnimationFrame(() => {
      drawing = 0;
      text.appendData(gathered);
      gathered = "";
      log.scrollTop = log.scrollHeight;
    });
  };
  socket.send(JSON.stringify({ type: "response.create", stream_id: "a" }));
}
