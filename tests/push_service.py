"""A simulated push service (RFC 8030), and the browsers that subscribe at it.

The service checks the headers and the VAPID signature of each request, as real services do. A
browser decrypts its messages with `http_ece`'s algorithm, written here a second time.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from jobs.vapid import decode, encode, new_vapid_key, point_of, public_key

CONTACT = "mailto:ops@app.example"


class Browser:
    """A simulated browser with one subscription. `messages` are its decrypted pushes."""

    def __init__(self, service: PushService, server_key: bytes) -> None:
        self._private = ec.generate_private_key(ec.SECP256R1())
        self._auth = secrets.token_bytes(16)
        self.server_key = server_key
        self.path = secrets.token_urlsafe(16)
        self.endpoint = f"{service.url}/push/{self.path}"
        self.messages: list[dict[str, Any]] = []
        self.topics: list[str] = []
        self.raw: list[bytes] = []
        self.gone = False
        service.browsers[self.path] = self

    @property
    def json(self) -> dict[str, Any]:
        """What `PushSubscription.toJSON()` returns."""
        return {
            "endpoint": self.endpoint,
            "expirationTime": None,
            "keys": {
                "p256dh": encode(point_of(self._private.public_key())),
                "auth": encode(self._auth),
            },
        }

    def receive(self, body: bytes) -> None:
        """Decrypts the body of a push."""
        self.raw.append(body)
        self.messages.append(json.loads(decrypted(body, self._private, self._auth)))


def decrypted(body: bytes, private: ec.EllipticCurvePrivateKey, auth: bytes) -> bytes:
    """Decrypts a body in the encoding `aes128gcm`, as RFC 8188 and RFC 8291 describe."""
    salt, size, length = body[:16], int.from_bytes(body[16:20], "big"), body[20]
    sender, rest = body[21 : 21 + length], body[21 + length :]
    assert len(body) <= size
    shared = private.exchange(ec.ECDH(), public_key(sender))
    info = b"WebPush: info\0" + point_of(private.public_key()) + sender
    secret = HKDF(SHA256(), 32, auth, info).derive(shared)
    key = HKDF(SHA256(), 16, salt, b"Content-Encoding: aes128gcm\0").derive(secret)
    nonce = HKDF(SHA256(), 12, salt, b"Content-Encoding: nonce\0").derive(secret)
    text, last, padding = AESGCM(key).decrypt(nonce, rest, None).rpartition(b"\x02")
    assert last == b"\x02"
    assert not padding.strip(b"\0")
    return text


@dataclass
class Channel:
    """A subscription of a real Firefox, which decrypts its messages itself."""

    socket: web.WebSocketResponse
    id: str
    server_key: bytes


class PushService:
    """A simulated push service. It answers with the statuses in `answers`, and then with 201.

    A Firefox whose preference `dom.push.serverURL` names `websocket` subscribes here too. `acks`
    are the messages with which it has confirmed pushes.
    """

    def __init__(self) -> None:
        self.browsers: dict[str, Browser] = {}
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.requests = 0
        self.ttls: list[int] = []
        self.url = ""
        self.wrong: list[str] = []
        self.channels: dict[str, Channel] = {}
        self.acks: list[dict[str, Any]] = []

    @property
    def websocket(self) -> str:
        """The address to which Firefox connects."""
        return f"{self.url.replace('http', 'ws', 1)}/"

    async def connect(self, request: web.Request) -> web.WebSocketResponse:
        """Speaks the protocol between Firefox and its push service (autopush)."""
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            said = message.json()
            match said.get("messageType"):
                case "hello":
                    uaid = said.get("uaid") or secrets.token_hex(16)
                    answer = {"messageType": "hello", "uaid": uaid, "use_webpush": True}
                case "register":
                    path = secrets.token_urlsafe(16)
                    key = decode(said["key"])
                    self.channels[path] = Channel(socket, said["channelID"], key)
                    answer = {**said, "pushEndpoint": f"{self.url}/push/{path}"}
                case "unregister":
                    self.channels = {
                        path: channel
                        for path, channel in self.channels.items()
                        if channel.id != said["channelID"]
                    }
                    answer = said
                case "ack" | "nack":
                    self.acks.append(said)
                    continue
                case _:  # a ping
                    await socket.send_str("{}")
                    continue
            await socket.send_json({**answer, "status": 200})
        return socket

    async def push(self, request: web.Request) -> web.Response:
        self.requests += 1
        body = await request.read()
        if self.answers:
            status, headers = self.answers.pop(0)
            return web.Response(status=status, headers=headers)
        browser = self.browsers.get(request.match_info["path"])
        if channel := self.channels.get(request.match_info["path"]):
            self._check(request, channel.server_key)
            notification = {
                "messageType": "notification",
                "channelID": channel.id,
                "version": secrets.token_hex(8),
                "data": encode(body),
                "headers": {"encoding": "aes128gcm"},
            }
            await channel.socket.send_json(notification)
            return web.Response(status=201)
        if browser is None or browser.gone:
            return web.Response(status=410)
        try:
            self._check(request, browser.server_key)
            browser.receive(body)
        except Exception as error:  # noqa: BLE001 - the test shows whatever it is
            self.wrong.append(repr(error))
            return web.Response(status=400)
        browser.topics.append(request.headers["Topic"])
        return web.Response(status=201, headers={"Location": f"{self.url}/message/1"})

    def _check(self, request: web.Request, server_key: bytes) -> None:
        scheme, _, rest = request.headers["Authorization"].partition(" ")
        parts = dict(part.strip().split("=", 1) for part in rest.split(","))
        key = decode(parts["k"])
        assert scheme == "vapid"
        assert key == server_key
        claims = jwt.decode(parts["t"], public_key(key), algorithms=["ES256"], audience=self.url)
        assert claims["sub"] == CONTACT
        assert time.time() < claims["exp"] <= time.time() + 86_400
        assert request.headers["Content-Encoding"] == "aes128gcm"
        assert request.headers["Urgency"] in {"very-low", "low", "normal", "high"}
        assert len(request.headers["Topic"]) <= 32
        decode(request.headers["Topic"])
        self.ttls.append(int(request.headers["TTL"]))


@asynccontextmanager
async def push_service() -> AsyncIterator[PushService]:
    """Runs a simulated push service on loopback."""
    service = PushService()
    app = web.Application()
    app.router.add_post("/push/{path}", service.push)
    app.router.add_get("/", service.connect)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    service.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield service
    finally:
        await runner.cleanup()
    assert [] == service.wrong


def push_environ(folder: Path) -> dict[str, str]:
    """Returns the settings with which servers and workers send pushes to a simulated service."""
    file = folder / "vapid.keys"
    if not file.exists():
        file.write_text(new_vapid_key().written + "\n")
    return {
        "HOLDLINE_VAPID_KEYS": str(file),
        "HOLDLINE_VAPID_CONTACT": CONTACT,
        "HOLDLINE_PUSH_SERVICES": "127.0.0.1",
        "HOLDLINE_PUSH_ALLOW_PRIVATE": "1",
        "HOLDLINE_PUSH_WAIT_SECONDS": "1",
    }
