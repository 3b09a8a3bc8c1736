/* Run inside a page: a page that takes the same frames and does nothing with them. */
() => {
  const socket = new WebSocket();
  socket.onmessage = () => {};
  socket.send(JSON.stringify({ type: "response.create", stream_id: "a" }));
}
