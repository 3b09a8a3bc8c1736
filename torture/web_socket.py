"""A client of the standard's WebSocket mode."""

from __future__ import annotations

import json
from typing import Final, Self

import aiohttp

from torture.answer import Answer, Json, piece_of, summary, text_of
from torture.client import Client, ConnectionLost
from torture.errors import Broken
from torture.json_text import parsed
from torture.timeline import PIECE

_CONNECT_SECONDS: Final = 30
_MAX_MESSAGE_BYTES: Final = 64 * 2**20


class Socket:
    """An open WebSocket. It is an async context manager.

    Attributes:
        answers: the answers by their response ids.
        lanes: the ids of the responses of each `stream_id`, in their order; "" without one.
        others: messages that are not events of a response, such as errors.
    """

    def __init__(self, client: Client) -> None:
        self.answers: dict[str, Answer] = {}
        self.lanes: dict[str, list[str]] = {}
        self.others: list[Json] = []
        self._client = client
        self._socket: aiohttp.ClientWebSocketResponse

    async def __aenter__(self) -> Self:
        client = self._client
        client.timeline.add(client.who, "sent", "opens a WebSocket at /responses")
        try:
            self._socket = await client.http.ws_connect(
                client.url.replace("http", "ws", 1) + "/responses",
                headers=client.headers,
                max_msg_size=_MAX_MESSAGE_BYTES,
                timeout=aiohttp.ClientWSTimeout(ws_close=1),
                heartbeat=_CONNECT_SECONDS,
            )
        except (aiohttp.ClientError, ConnectionError) as error:
            raise ConnectionLost(f"the WebSocket cannot be opened: {error!r}") from None
        return self

    async def __aexit__(self, *_: object) -> None:
        self._client.timeline.add(self._client.who, "lost", "closes its WebSocket")
        await self._socket.close()

    async def send(self, message: Json) -> None:
        """Sends a message."""
        self._client.timeline.add(self._client.who, "sent", json.dumps(message))
        await self._socket.send_json(message)

    async def create(self, body: Json) -> None:
        """Sends a prompt."""
        await self.send({"type": "response.create", **body})

    async def receive(self) -> Json:
        """Returns the next message, after adding it to its answer.

        Raises:
            ConnectionLost: the socket was closed.
            Broken: an event cannot follow those before it.
        """
        frame = await self._socket.receive()
        if frame.type is not aiohttp.WSMsgType.TEXT:
            code = self._socket.close_code
            self._client.timeline.add(self._client.who, "lost", f"closed with {code}")
            raise ConnectionLost(f"the WebSocket was closed with {code}")
        try:
            message = parsed(frame.data)
        except ValueError:
            raise Broken(f"a message is no JSON: {frame.data[:100]!r}") from None
        kind = text_of(message, "type")
        delta = kind == "response.output_text.delta"
        shown = f"{PIECE}{piece_of(message)}" if delta else summary(message)
        self._client.timeline.add(self._client.who, "arrived", shown)
        if kind.startswith("response.") and not kind.startswith("response.steer"):
            self._add(kind, message)
        else:
            self.others.append(message)
        return dict(message)

    async def until_ended(self, count: int = 1) -> list[Json]:
        """Reads until so many responses have ended, and returns them in the order of their ends.

        Raises:
            Broken: an error arrives, or the socket is closed.
        """
        ended: list[Json] = []
        while len(ended) < count:
            message = await self.receive()
            if message["type"] == "error":
                raise Broken(f"an error arrived: {str(message)[:300]}")
            last = self._answer_of(message)
            if last is not None and last.last is not None and last.final not in ended:
                ended.append(last.final)
        return ended

    def _add(self, kind: str, message: Json) -> None:
        lane = self.lanes.setdefault(str(message.get("stream_id", "")), [])
        if kind == "response.created":
            response_id = text_of(message, "response", "id")
            lane.append(response_id)
            self.answers[response_id] = Answer()
        if not lane:
            raise Broken(f"{kind} arrived before response.created")
        # A lane has one response at a time.
        self.answers[lane[-1]].add(message)

    def _answer_of(self, message: Json) -> Answer | None:
        lane = self.lanes.get(str(message.get("stream_id", "")))
        return self.answers[lane[-1]] if lane else None
