/* Runs inside a page: receives the same messages as the widget and ignores them. */
() => {
  const socket = new WebSocket();
  socket.onmessage = () => {};
  socket.send(JSON.stringify({ type: "response.create", stream_id: "a" }));
}
