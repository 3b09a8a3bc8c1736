// Simulates APNs (only HTTP/2) and FCM on one port with TLS, with the rules of their documentations. Prints the port, and then
// each request that it accepts or refuses. A device named "gone" is not registered any more.
import { readFileSync } from "node:fs";
import { createSecureServer } from "node:http2";

const [certificate, key] = process.argv.slice(2).map((path) => readFileSync(path));

/** Returns the status and the reason with which APNs answers. */
function apns({ httpVersion, headers, url }, body) {
  if (httpVersion !== "2.0") return [505, "HTTP/2 is required"];
  const device = url.slice("/3/device/".length);
  if (headers.authorization !== "bearer apns-token") return [403, "InvalidProviderToken"];
  if (headers["apns-topic"] !== "com.example.app") return [400, "BadTopic"];
  if (headers["apns-push-type"] !== "alert") return [400, "InvalidPushType"];
  if (Buffer.byteLength(headers["apns-collapse-id"]) > 64) return [400, "BadCollapseId"];
  if (Buffer.byteLength(body) > 4096) return [413, "PayloadTooLarge"];
  if (!JSON.parse(body).aps?.alert) return [400, "PayloadEmpty"];
  if (device === "gone") return [410, "Unregistered"];
  return /^[0-9a-f]{64}$/.test(device) ? [200, ""] : [400, "BadDeviceToken"];
}

/** Returns the status and the reason with which FCM answers. */
function fcm({ headers, url }, body) {
  if (url !== "/v1/projects/PROJECT/messages:send") return [404, "NOT_FOUND"];
  if (headers.authorization !== "Bearer fcm-token") return [401, "UNAUTHENTICATED"];
  const { token, data, notification, ...others } = JSON.parse(body).message;
  const isWrong = Object.keys(others).length > 0 || !notification.title;
  if (isWrong || !Object.values(data).every((value) => typeof value === "string")) return [400, "INVALID_ARGUMENT"];
  return token === "gone" ? [404, "UNREGISTERED"] : [200, ""];
}

const server = createSecureServer({ cert: certificate, key, allowHTTP1: true }, async (request, response) => {
  let body = "";
  for await (const piece of request) body += piece;
  const answered = request.url.startsWith("/3/device/") ? apns(request, body) : fcm(request, body);
  const [status, reason] = answered;
  console.log(JSON.stringify({ path: request.url, status, reason, body: JSON.parse(body) }));
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify({ reason }));
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
