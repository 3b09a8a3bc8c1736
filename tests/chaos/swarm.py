"""The clients: each asks, follows, loses its socket, comes back elsewhere, and writes it down.

A client is as simple as a right one can be. It counts what it has, and after a loss it asks any
server for what follows. It throws nothing away and repairs nothing: what it is told is its line.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgspec

from tests.chaos.checker import PASSING
from tests.chaos.grammar import TERMINAL
from tests.chaos.story import Event, Line, Transcript, What

TICK_SECONDS = 0.1
PING_SECONDS = 0.5
SILENT_SECONDS = 2.5
SEND_SECONDS = 2.0

# What the model does, and how often of a hundred.
MODES = (
    (62, ""),
    (6, "mode=eof times=1"),
    (4, "mode=rst times=1"),
    (4, "mode=drop times=1"),
    (4, "mode=500 times=1"),
    (3, "mode=503 times=1 after=0.2"),
    (3, "mode=busy times=1 after=0.3"),
    (3, "mode=hang times=1"),
    (2, "mode=silent times=1"),
    (2, "mode=headers times=1"),
    (2, "mode=errorobject times=1"),
    (2, "mode=cutchunk times=1"),
    (2, "mode=badjson times=1"),
    (1, "mode=400"),
)
decode = msgspec.json.decode
encode = msgspec.json.encode


@dataclass(eq=False)
class Want:
    """One answer that a client wants. `last` is the last sequence number that it has."""

    marker: str
    body: Event
    response_id: str = ""
    last: int = -1
    done: str = ""
    asked: bool = False
    again_at: float = 0.0
    cancel_at: int | None = None
    delete_at: int | None = None
    lane: str | None = None


@dataclass
class Town:
    """What the clients share: the servers, the answers that others may join, the hour."""

    urls: list[str]
    http: aiohttp.ClientSession
    transcripts: list[Transcript] = field(default_factory=list)
    tokens: dict[str, int] = field(default_factory=dict)
    news: deque[Want] = field(default_factory=lambda: deque(maxlen=200))
    open: bool = True
    closing: bool = False
    pace: float = 1.0
    model_pace: tuple[float, float] = (0.005, 0.04)
    made: int = 0
    plain: bool = False


class Client:
    """What clients of every kind have in common."""

    def __init__(self, name: str, town: Town, dice: random.Random, most: int) -> None:
        self.name = name
        self.town = town
        self.dice = dice
        self.most = most
        self.wants: list[Want] = []
        self.transcript = Transcript(name)
        town.transcripts.append(self.transcript)
        self.socket = 0
        self._next_at = 0.0
        self._errands: set[asyncio.Task[None]] = set()

    @property
    def idle(self) -> bool:
        """Nothing is wanted any more."""
        return not self.wants and not self._errands

    async def run(self) -> None:
        """Until it is cancelled."""
        failures = 0
        try:
            while True:
                self.socket += 1
                try:
                    await self.connect()
                    failures = 0
                    why = "closed"
                except (aiohttp.ClientError, OSError, TimeoutError, EOFError) as error:
                    failures += 1
                    why = f"{type(error).__name__}"
                self.note("lost", {"why": why})
                most = min(0.05 * 2 ** min(failures, 5), 1.0)
                await asyncio.sleep(self.dice.uniform(0, most))
        finally:
            for errand in self._errands:
                errand.cancel()
            await asyncio.gather(*self._errands, return_exceptions=True)

    async def connect(self) -> None:
        raise NotImplementedError

    def note(self, what: What, data: Event) -> None:
        """Writes a line into the transcript."""
        self.transcript.lines.append(Line(time.monotonic(), self.socket, what, data))

    def url(self) -> str:
        """Any server."""
        return self.dice.choice(self.town.urls)

    def new_want(self) -> Want | None:
        """The next answer that this client wants, if it is time for one."""
        now = time.monotonic()
        if not self.town.open or len(self.wants) >= self.most or now < self._next_at:
            return None
        self._next_at = now + self.dice.expovariate(1 / self.town.pace)
        want = self.make_want()
        if want is not None:
            self.wants.append(want)
        return want

    def make_want(self) -> Want | None:
        """A prompt of one's own."""
        dice, town = self.dice, self.town
        town.made += 1
        marker = f"m{town.made}"
        if dice.random() < 0.03 and not town.plain:
            tokens, how = 3000, "mode=fast"
        else:
            tokens = dice.randint(20, 60) if town.plain else dice.randint(3, 40)
            how = dice.choices([m for _, m in MODES], [w for w, _ in MODES])[0]
            if town.plain:
                how = ""
            how += f" pace={dice.uniform(*town.model_pace):.4f}"
        town.tokens[marker] = tokens
        body = {
            "model": "simulation",
            "input": f"marker={marker} tokens={tokens} {how}",
            "metadata": {"marker": marker},
            "idempotency_key": f"key of {marker}",
        }
        want = Want(marker, body)
        fate = dice.random()
        if town.plain:
            return want
        if fate < 0.06:
            want.cancel_at = dice.randint(1, 12)
        elif fate < 0.09:
            want.delete_at = dice.randint(1, 12)
        return want

    def took(self, want: Want, event: Event) -> None:
        """An event of this answer came."""
        number = event["sequence_number"]
        if "response" in event and not want.response_id:
            want.response_id = event["response"]["id"]
            self.town.news.append(want)
        want.last = max(want.last, number)
        if event["type"] in TERMINAL:
            self.finished(want, "end")
        elif want.delete_at is not None and number >= want.delete_at:
            want.delete_at = None
            self.errand(self._delete(want))

    def refused(self, want: Want, code: str) -> None:
        """An error about this answer came."""
        if code == "already_followed":
            return
        if code in PASSING:
            want.asked = False
            want.again_at = time.monotonic() + self.dice.uniform(0.05, 0.4)
        else:
            self.finished(want, code)

    def finished(self, want: Want, how: str) -> None:
        """Nothing more is expected."""
        want.done = how
        if want in self.wants:
            self.wants.remove(want)

    def errand(self, work: Any) -> None:
        """Something to be done on another connection."""
        task = asyncio.create_task(work)
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)

    async def _delete(self, want: Want) -> None:
        self.note("sent", {"type": "delete", "response_id": want.response_id})
        await self.until_told("DELETE", f"/{want.response_id}")

    async def until_told(self, method: str, path: str) -> None:
        """Repeats a request until a server has answered it."""
        timeout = aiohttp.ClientTimeout(total=8)
        while True:
            with contextlib.suppress(aiohttp.ClientError, OSError):
                url = f"{self.url()}/v1/responses{path}"
                async with self.town.http.request(method, url, timeout=timeout) as response:
                    if response.status in (200, 404):
                        return
            await asyncio.sleep(self.dice.uniform(0.1, 0.5))


class SocketClient(Client):
    """One WebSocket at a time, each answer on a lane of its own, or one on none."""

    async def connect(self) -> None:
        server = self.url()
        self.note("open", {"server": server})
        async with asyncio.timeout(3):
            ws = await self.town.http.ws_connect(
                f"{server}/v1/responses",
                max_msg_size=0,
                timeout=aiohttp.ClientWSTimeout(ws_close=0.3),
            )
        try:
            await self._talk(ws)
        finally:
            with contextlib.suppress(aiohttp.ClientError, OSError):
                async with asyncio.timeout(1):
                    await ws.close()

    async def _talk(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        for want in self.wants:
            want.asked = False
        heard = pinged = ticked = time.monotonic()
        leave_at = heard + self.dice.expovariate(1 / 6)
        while True:
            now = time.monotonic()
            if now - ticked >= TICK_SECONDS:
                ticked = now
                self.new_want()
                for want in list(self.wants):
                    if not want.asked and now >= want.again_at:
                        await self._ask(ws, want)
                if now - pinged >= PING_SECONDS:
                    pinged = now
                    await self._send(ws, {"type": "holdline:ping", "id": self.socket})
                if now - heard > SILENT_SECONDS:
                    raise TimeoutError
                if (now > leave_at and not self.town.closing) or (self.town.closing and self.idle):
                    return
            try:
                message = await ws.receive(timeout=TICK_SECONDS)
            except TimeoutError:
                continue
            if message.type is not aiohttp.WSMsgType.TEXT:
                return
            heard = time.monotonic()
            self._told(ws, decode(message.data))

    async def _ask(self, ws: aiohttp.ClientWebSocketResponse, want: Want) -> None:
        want.asked = True
        if want.response_id:
            message = {
                "type": "holdline:resume",
                "response_id": want.response_id,
                "starting_after": want.last,
            }
        else:
            message = {"type": "response.create", **want.body}
        if want.lane is not None:
            message["stream_id"] = want.lane
        await self._send(ws, message)

    async def _send(self, ws: aiohttp.ClientWebSocketResponse, message: Event) -> None:
        self.note("sent", message)
        async with asyncio.timeout(SEND_SECONDS):
            await ws.send_str(encode(message).decode())

    def _told(self, ws: aiohttp.ClientWebSocketResponse, event: Event) -> None:
        self.note("came", event)
        lane = event.get("stream_id")
        want = next((w for w in self.wants if w.lane == lane), None)
        if want is None:
            return
        if event["type"] == "error":
            self.refused(want, event["error"]["code"])
        elif "sequence_number" in event:
            self.took(want, event)
            if want.cancel_at is not None and want.last >= want.cancel_at and want.response_id:
                want.cancel_at = None
                self.errand(self._cancel(ws, want))

    async def _cancel(self, ws: aiohttp.ClientWebSocketResponse, want: Want) -> None:
        message = {"type": "response.cancel", "response_id": want.response_id}
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            await self._send(ws, message | ({"stream_id": want.lane} if want.lane else {}))

    def make_want(self) -> Want | None:
        want = super().make_want()
        if want is not None and self.most > 1:
            want.lane = want.marker
        return want


class Joiner(SocketClient):
    """Follows what others have asked for: a second device."""

    def __init__(self, name: str, town: Town, dice: random.Random, most: int) -> None:
        super().__init__(name, town, dice, most)
        self._joined: set[str] = set()

    def make_want(self) -> Want | None:
        if not self.town.news:
            return None
        other = self.dice.choice(self.town.news)
        if other.response_id in self._joined:
            return None
        self._joined.add(other.response_id)
        # Whoever has the last event has no reason to ask, and is told nothing.
        most = other.last - 1 if other.done else other.last
        last = -1 if self.dice.random() < 0.6 else self.dice.randint(-1, most)
        return Want(other.marker, {}, other.response_id, last, lane=other.marker)


class StreamClient(Client):
    """One answer at a time over HTTP, as server-sent events."""

    async def connect(self) -> None:
        while not (want := self.wants[0] if self.wants else self.new_want()):  # noqa: ASYNC110
            await asyncio.sleep(TICK_SECONDS)
        await asyncio.sleep(max(want.again_at - time.monotonic(), 0))
        self.note("open", {"server": "http"})
        async with self._request(want) as response:
            if response.status != 200:
                body = decode(await response.read())
                self.note("came", {"type": "error", **body})
                self.refused(want, body["error"]["code"])
                return
            async for line in response.content:
                if line.startswith(b"data: {"):
                    event = decode(line[6:])
                    self.note("came", event)
                    if event["type"] == "error":
                        self.refused(want, event["error"]["code"])
                    else:
                        self.took(want, event)
                        if want.cancel_at is not None and want.last >= want.cancel_at:
                            want.cancel_at = None
                            self.errand(self._cancel(want))

    @contextlib.asynccontextmanager
    async def _request(self, want: Want) -> AsyncIterator[aiohttp.ClientResponse]:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=2, sock_read=7)
        url = f"{self.url()}/v1/responses"
        if want.response_id:
            message = {
                "type": "holdline:resume",
                "response_id": want.response_id,
                "starting_after": want.last,
            }
            self.note("sent", message)
            query = {"stream": "true", "starting_after": str(want.last)}
            asking = self.town.http.get(f"{url}/{want.response_id}", params=query, timeout=timeout)
        else:
            self.note("sent", {"type": "response.create", **want.body})
            body = {k: v for k, v in want.body.items() if k != "idempotency_key"}
            headers = {"Idempotency-Key": want.body["idempotency_key"]}
            asking = self.town.http.post(
                url, json=body | {"stream": True}, headers=headers, timeout=timeout
            )
        async with asking as response:
            yield response

    async def _cancel(self, want: Want) -> None:
        self.note("sent", {"type": "response.cancel", "response_id": want.response_id})
        await self.until_told("POST", f"/{want.response_id}/cancel")
