"""A minimal push server, whose cost is a lower bound for a server with aiohttp and uvloop.

The server reads one Redis connection in chunks, and writes each message as a frame directly to the
transport. It gives no guarantees such as Holdline's.
"""

import asyncio
import os
import struct
import sys
from urllib.parse import urlsplit

import hiredis
import uvloop
from aiohttp import WSMsgType, web
from lines import obey

sockets: dict[bytes, asyncio.Transport] = {}


def frame(payload: bytes) -> bytes:
    size = len(payload)
    head = struct.pack("!BB", 0x81, size) if size < 126 else struct.pack("!BBH", 0x81, 126, size)
    return head + payload


class Subscriber(asyncio.Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.reader = hiredis.Reader()

    def data_received(self, data: bytes) -> None:
        self.reader.feed(data)
        while (message := self.reader.gets()) is not False:
            if message[0] == b"message" and (socket := sockets.get(message[1])):
                socket.write(frame(message[2]))
            elif message[0] == b"subscribe" and (socket := sockets.get(message[1])):
                socket.write(frame(b"subscribed"))


async def main() -> None:
    loop = asyncio.get_running_loop()
    redis = urlsplit(os.environ["REDIS_URL"])
    _, subscriber = await loop.create_connection(Subscriber, redis.hostname, redis.port)

    async def serve(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(compress=False, heartbeat=25)
        await ws.prepare(request)
        channel = f"push:{request.query['n']}".encode()
        sockets[channel] = request.transport
        subscriber.transport.write(hiredis.pack_command((b"SUBSCRIBE", channel)))
        async for message in ws:
            if message.type is WSMsgType.ERROR:
                break
        subscriber.transport.write(hiredis.pack_command((b"UNSUBSCRIBE", channel)))
        sockets.pop(channel, None)
        return ws

    app = web.Application()
    app.router.add_get("/", serve)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(sys.argv[1]), backlog=4096).start()
    await obey({"ready": lambda: "ok"})


uvloop.run(main())
