"""A server that answers each request in one wrong way: `python hostile.py PORT WAY`."""

from __future__ import annotations

import asyncio
import json
import sys

from aiohttp import web

WAYS = (
    *("nothing", "reset", "text", "list", "empty", "null", "broken_stream", "odd_events"),
    *("endless", "wrong_types", "errors", "echo"),
)
ODD = [
    "data: {}\n\n",
    "data: [1]\n\n",
    "data: \n\n",
    "data: not JSON\n\n",
    'data: {"type": 3}\n\n',
    'data: {"type": "response.created"}\n\n',
    'data: {"type": "response.created", "sequence_number": 0, "response": 3}\n\n',
]
WRONG = {
    "id": 3,
    "status": {},
    "output": [3, {"type": "message", "content": [4]}],
    "data": 5,
    "choices": [{}],
    "incomplete_details": [],
}


async def answer(request: web.Request) -> web.StreamResponse:
    way = sys.argv[2]
    match way:
        case "nothing":
            await asyncio.sleep(3600)  # no answer within any deadline
        case "reset":
            assert request.transport is not None
            request.transport.abort()
        case "text":
            return web.Response(text="<html>")
        case "list":
            return web.json_response([1, 2])
        case "null":
            return web.Response(text="null", content_type="application/json")
        case "wrong_types":
            return web.json_response(WRONG)
        case "echo":
            credentials = request.headers.get("Authorization")
            print("noise " * 1_000 + "\n" * 10, *["more\n"] * 100, flush=True)
            print("connected to redis://user:pass-of-the-target@127.0.0.1 with sk-of-the-target")
            print(request.method, request.path, credentials, flush=True)
            return web.json_response({"error": {"message": f"wrong: {credentials}"}}, status=500)
        case "errors":
            return web.json_response({"error": None}, status=500)
        case "broken_stream" | "odd_events" | "endless":
            return await stream(request, way)
        case _:
            pass
    return web.Response()


async def stream(request: web.Request, way: str) -> web.StreamResponse:
    reply = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await reply.prepare(request)
    if way == "broken_stream":
        await reply.write(b"data: \xff\xfe\n\n")
    elif way == "odd_events":
        await reply.write(ODD[hash(request.path) % len(ODD)].encode())
        for event in ODD:
            await reply.write(event.encode())
    else:
        number = 0
        while True:
            endless = {"type": "response.x", "sequence_number": number}
            await reply.write(f"data: {json.dumps(endless)}\n\n".encode())
            number += 1
            await asyncio.sleep(0.01)  # lets the clock of a deadline run
    return reply


if __name__ == "__main__":
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)
