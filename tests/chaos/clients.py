"""Clients that send prompts, follow answers, reconnect to other servers and record everything.

Each client is as simple as a correct client can be. It remembers its last sequence number and,
after a lost connection, resumes from there on any server. It neither drops nor repairs anything,
so its trace contains exactly what it received.
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
from tests.chaos.device_rules import Device
from tests.chaos.history import ClientTrace, Event, TraceEntry, What
from tests.chaos.log_rules import TERMINAL
from tests.chaos.profiles import PROFILES, Profile
from tests.error_codes import own_code
from tests.system import EXTENSIONS

TICK_SECONDS = 0.1
PING_SECONDS = 0.5
SILENT_SECONDS = 2.5
SEND_SECONDS = 2.0

decode = msgspec.json.decode
encode = msgspec.json.encode


@dataclass(eq=False)
class Request:
    """A client's request for an answer. `last` is the last sequence number received.

    `shown` contains the fields of the last received event that a client sends back when it resumes.
    It is empty if no event was received.
    """

    marker: str
    body: Event
    response_id: str = ""
    last: int = -1
    shown: dict[str, str] = field(default_factory=dict)
    done: str = ""
    asked: bool = False
    retry_at: float = 0.0
    cancel_at: int | None = None
    delete_at: int | None = None
    lane: str | None = None

    def place(self) -> Event:
        """The position from which to resume.

        It includes the last event's fields, which let the server detect that a log was cut off and
        has grown again.
        """
        return {"starting_after": self.last, **self.shown}


@dataclass
class Workload:
    """The state that all clients share: servers, answers to join, and the phase of the run."""

    urls: list[str]
    http: aiohttp.ClientSession
    profile: Profile = PROFILES["usual"]
    traces: list[ClientTrace] = field(default_factory=list)
    devices: list[Device] = field(default_factory=list)
    device_traces: list[ClientTrace] = field(default_factory=list)
    tokens: dict[str, int] = field(default_factory=dict)
    joinable: deque[Request] = field(default_factory=lambda: deque(maxlen=200))
    open: bool = True
    closing: bool = False
    models: list[str] = field(default_factory=lambda: ["simulation"])
    pace: float = 1.0
    count: int = 0

    @contextlib.asynccontextmanager
    async def socket(
        self, server: str, headers: dict[str, str] | None = None
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """Opens a WebSocket to a server, and closes it at the end of the context."""
        async with asyncio.timeout(3):
            ws = await self.http.ws_connect(
                f"{server}/v1/responses",
                protocols=EXTENSIONS,
                headers=headers,
                max_msg_size=0,
                timeout=aiohttp.ClientWSTimeout(ws_close=0.3),
            )
        try:
            yield ws
        finally:
            with contextlib.suppress(aiohttp.ClientError, OSError):
                async with asyncio.timeout(1):
                    await ws.close()


class Client:
    """The base class of all clients."""

    def __init__(self, name: str, workload: Workload, rng: random.Random, most: int) -> None:
        self.name = name
        self.workload = workload
        self.rng = rng
        self.most = most
        self.requests: list[Request] = []
        self.trace = ClientTrace(name)
        workload.traces.append(self.trace)
        self.socket = 0
        self._next_at = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def idle(self) -> bool:
        """Whether the client has no pending request and no task."""
        return not self.requests and not self._tasks

    async def run(self) -> None:
        """Reconnects repeatedly until it is cancelled."""
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
                self.record("lost", {"why": why})
                most = min(0.05 * 2 ** min(failures, 5), 1.0)
                await asyncio.sleep(self.rng.uniform(0, most))
        finally:
            for spawn in self._tasks:
                spawn.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def connect(self) -> None:
        raise NotImplementedError

    def record(self, what: What, data: Event) -> None:
        """Adds an entry to the trace."""
        self.trace.entries.append(TraceEntry(time.monotonic(), self.socket, what, data))

    def url(self) -> str:
        """The URL of a randomly chosen server."""
        return self.rng.choice(self.workload.urls)

    def next_request(self) -> Request | None:
        """Returns a new request, or None if it is too early for another one."""
        now = time.monotonic()
        if not self.workload.open or len(self.requests) >= self.most or now < self._next_at:
            return None
        self._next_at = now + self.rng.expovariate(1 / self.workload.pace)
        request = self.make_request()
        if request is not None:
            self.requests.append(request)
        return request

    def make_request(self) -> Request | None:
        """Creates a request with a new prompt."""
        rng, workload, profile = self.rng, self.workload, self.workload.profile
        workload.count += 1
        marker = f"m{workload.count}"
        if rng.random() < 0.03 and not profile.plain:
            tokens, how = 3000, "mode=fast"
        else:
            tokens = rng.randint(*profile.tokens) if profile.plain else rng.randint(3, 40)
            how = rng.choices([m for _, m in profile.modes], [w for w, _ in profile.modes])[0]
            if profile.plain:
                how = ""
            how += f" pace={rng.uniform(*profile.model_pace):.4f}"
        workload.tokens[marker] = tokens
        body = {
            "model": rng.choice(workload.models),
            "input": f"marker={marker} tokens={tokens} {how}",
            "metadata": {"marker": marker},
            "idempotency_key": f"key of {marker}",
        }
        request = Request(marker, body)
        fate = rng.random()
        if profile.plain:
            return request
        if fate < 0.06:
            request.cancel_at = rng.randint(1, 12)
        elif fate < 0.09:
            request.delete_at = rng.randint(1, 12)
        return request

    def on_event(self, request: Request, event: Event) -> None:
        """Handles an event of the request's answer."""
        number = event["sequence_number"]
        if "response" in event and not request.response_id:
            request.response_id = event["response"]["id"]
            self.workload.joinable.append(request)
        if number > request.last:
            request.last = number
            item_id = event.get("item_id") or event.get("item", {}).get("id", "")
            request.shown = {"item_id": item_id, "event_type": event["type"]}
        if event["type"] in TERMINAL:
            self.finished(request, "end")
        elif request.delete_at is not None and number >= request.delete_at:
            request.delete_at = None
            self.spawn(self._delete(request))

    def on_error(self, request: Request, code: str) -> None:
        """Handles an error of the request's answer."""
        if code == "already_followed":
            return
        if code in PASSING:
            request.asked = False
            request.retry_at = time.monotonic() + self.rng.uniform(0.05, 0.4)
        else:
            self.finished(request, code)

    def finished(self, request: Request, how: str) -> None:
        """Marks the request as done."""
        request.done = how
        if request in self.requests:
            self.requests.remove(request)

    def spawn(self, work: Any) -> None:
        """Starts a task that uses another connection."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _delete(self, request: Request) -> None:
        self.record("sent", {"type": "delete", "response_id": request.response_id})
        await self.call_until_answered("DELETE", f"/{request.response_id}")

    async def call_until_answered(self, method: str, path: str) -> None:
        """Repeats a request until a server answers it."""
        timeout = aiohttp.ClientTimeout(total=8)
        while True:
            with contextlib.suppress(aiohttp.ClientError, OSError):
                url = f"{self.url()}/v1/responses{path}"
                async with self.workload.http.request(method, url, timeout=timeout) as response:
                    if response.status in (200, 404):
                        return
            await asyncio.sleep(self.rng.uniform(0.1, 0.5))


class StreamClient(Client):
    """A client that streams one answer at a time over HTTP."""

    async def connect(self) -> None:
        while not (request := self.requests[0] if self.requests else self.next_request()):  # noqa: ASYNC110
            await asyncio.sleep(TICK_SECONDS)
        await asyncio.sleep(max(request.retry_at - time.monotonic(), 0))
        self.record("open", {"server": "http"})
        async with self._open(request) as response:
            if response.status != 200:
                body = decode(await response.read())
                self.record("received", {"type": "error", **body})
                self.on_error(request, own_code(body["error"]))
                return
            async for line in response.content:
                if line.startswith(b"data: {"):
                    event = decode(line[6:])
                    self.record("received", event)
                    if event["type"] == "error":
                        self.on_error(request, own_code(event["error"]))
                    else:
                        self.on_event(request, event)
                        if request.cancel_at is not None and request.last >= request.cancel_at:
                            request.cancel_at = None
                            self.spawn(self._cancel(request))

    @contextlib.asynccontextmanager
    async def _open(self, request: Request) -> AsyncIterator[aiohttp.ClientResponse]:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=2, sock_read=7)
        url = f"{self.url()}/v1/responses"
        if request.response_id:
            id_ = request.response_id
            message = {"type": "holdline:resume", "response_id": id_, **request.place()}
            self.record("sent", message)
            query = {"stream": "true", **request.place()}
            asking = self.workload.http.get(
                f"{url}/{request.response_id}", params=query, timeout=timeout
            )
        else:
            self.record("sent", {"type": "response.create", **request.body})
            body = {k: v for k, v in request.body.items() if k != "idempotency_key"}
            headers = {"Idempotency-Key": request.body["idempotency_key"]}
            asking = self.workload.http.post(
                url, json=body | {"stream": True}, headers=headers, timeout=timeout
            )
        async with asking as response:
            yield response

    async def _cancel(self, request: Request) -> None:
        self.record("sent", {"type": "response.cancel", "response_id": request.response_id})
        await self.call_until_answered("POST", f"/{request.response_id}/cancel")
