"""Devices of end users, which follow conversations and the lists of conversations, and change them.

A device is as simple as a correct client can be: it remembers the cursor of each feed, and sends it
on each new socket. It records all messages. It also makes changes over HTTP, and repeats each one
until a server answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import time
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

import holdline_client
from admin.signers import new_pair
from tests.chaos.clients import SEND_SECONDS, SILENT_SECONDS, TICK_SECONDS, Client, Workload
from tests.chaos.device_rules import Device, Observed
from tests.chaos.history import Event
from tests.error_codes import own_code

TENANT = "acme"
MAX_CONVERSATIONS = 3  # of one user
PAGE = 100
READ_SECONDS = 10.0
CONVERSATIONS = "/v1/conversations"


@dataclass
class User:
    """An end user with several devices. Some of the `conversations` may be deleted."""

    name: str
    token: str
    conversations: list[str] = field(default_factory=list)

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


def users_of(number: int, signers: Path) -> list[User]:
    """Returns end users with tokens, and writes the file with the key that verifies these."""
    private, public = new_pair("chaos", "EdDSA", None)
    signers.write_text(json.dumps({"keys": [public]}))
    names = [f"user-{index}" for index in range(number)]
    return [
        User(name, holdline_client.mint_token(private, tenant=TENANT, subject=name))
        for name in names
    ]


class DeviceClient(Client):
    """A device of a user, with one WebSocket at a time."""

    def __init__(self, name: str, workload: Workload, rng: random.Random, user: User) -> None:
        super().__init__(name, workload, rng, 1)
        # The checker of responses does not read this trace.
        workload.traces.remove(self.trace)
        workload.device_traces.append(self.trace)
        self.user = user
        self.device = Device(name, user.name)
        workload.devices.append(self.device)
        self._acts_at = 0.0
        self._followed: set[str | None] = set()
        self._keys = itertools.count()

    @property
    def idle(self) -> bool:
        """True if no change is under way."""
        return not self._tasks

    async def connect(self) -> None:
        server = self.url()
        async with self.workload.socket(server, self.user.headers) as ws:
            self._followed = set()
            self.device.connected()
            await self._talk(ws)

    async def _talk(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        heard = time.monotonic()
        leave_at = heard + self.rng.expovariate(1 / 8)
        ticked = 0.0
        while True:
            now = time.monotonic()
            if now - ticked >= TICK_SECONDS:
                ticked = now
                await self._follow(ws)
                await self._send(ws, {"type": "holdline:ping", "id": "chaos"})
                self._act(ws)
                if now - heard > SILENT_SECONDS:
                    raise TimeoutError
                if now > leave_at and not self.workload.closing:
                    return
            try:
                message = await ws.receive(timeout=TICK_SECONDS)
            except TimeoutError:
                continue
            if message.type is not aiohttp.WSMsgType.TEXT:
                return
            heard = time.monotonic()
            event: Event = message.json()
            self.record("received", event)
            if event["type"] == "error":
                self._on_error(event)
            else:
                self.device.received(event)

    async def _follow(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        for id_ in [None, *self.user.conversations]:
            if id_ in self._followed or id_ in self.device.gone:
                continue
            self._followed.add(id_)
            message: Event = {"type": "holdline:follow", **self.device.cursor(id_)}
            if id_ is not None:
                message["conversation"] = id_
            await self._send(ws, message)

    async def _send(self, ws: aiohttp.ClientWebSocketResponse, message: Event) -> None:
        if message["type"] != "holdline:ping":
            self.record("sent", message)
        async with asyncio.timeout(SEND_SECONDS):
            await ws.send_json(message)

    def _on_error(self, event: Event) -> None:
        code, id_ = own_code(event["error"]), event.get("conversation")
        if code == "conversation_not_found" and id_ is not None:
            self.device.gone.add(id_)
        elif event["status"] in (429, 503):
            self._followed.discard(id_)  # follow again at the next tick
        else:
            self.device.anomalies.append(f"received the error {code} for {id_}")

    def _act(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        now = time.monotonic()
        if not self.workload.open or now < self._acts_at or self._tasks:
            return
        self._acts_at = now + self.rng.expovariate(1 / 0.7)
        known = [one for one in self.user.conversations if one not in self.device.gone]
        if (len(known) < MAX_CONVERSATIONS and self.rng.random() < 0.3) or not known:
            if len(self.user.conversations) < 4 * MAX_CONVERSATIONS:
                self.spawn(self._create())
            return
        id_ = self.rng.choice(known)
        fate = self.rng.random()
        if fate < 0.55:
            self.spawn(self._ask(id_))
        elif fate < 0.7:
            metadata = {"user": self.user.name, "title": f"{self.name} {next(self._keys)}"}
            self.spawn(self._call("POST", f"/{id_}", {"metadata": metadata}))
        elif fate < 0.8:
            item = {"type": "message", "role": "user", "content": f"added by {self.name}"}
            self.spawn(self._call("POST", f"/{id_}/items", {"items": [item]}))
        elif fate < 0.88 and (items := self.device.items(id_)):
            self.spawn(self._call("DELETE", f"/{id_}/items/{self.rng.choice(items)}"))
        elif fate < 0.97:
            number = self.device.last(id_)
            message = {"type": "holdline:read", "conversation": id_, "sequence_number": number}
            if number >= 0:
                self.spawn(self._mark_read(ws, message))
        else:
            self.spawn(self._call("DELETE", f"/{id_}"))

    async def _mark_read(self, ws: aiohttp.ClientWebSocketResponse, message: Event) -> None:
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            await self._send(ws, message)

    async def _create(self) -> None:
        made = await self._call("POST", "", {"metadata": {"user": self.user.name}})
        if made is not None and made["id"] not in self.user.conversations:
            self.user.conversations.append(made["id"])

    async def _ask(self, id_: str) -> None:
        self.workload.count += 1
        marker = f"m{self.workload.count}"
        tokens = self.rng.randint(3, 30)
        self.workload.tokens[marker] = tokens
        pace = self.rng.uniform(0.005, 0.04)
        body: Event = {
            "model": "simulation",
            "input": f"marker={marker} tokens={tokens} pace={pace:.4f}",
            "metadata": {"marker": marker, "user": self.user.name},
            "conversation": id_,
            "background": True,
        }
        await self._call("POST", "/v1/responses", body, root="")

    async def _call(
        self, method: str, path: str, body: Event | None = None, *, root: str = CONVERSATIONS
    ) -> Event | None:
        """Repeats a request until a server answers it. Returns the answer, or None if refused."""
        headers = {**self.user.headers, "Idempotency-Key": f"{self.name} {next(self._keys)}"}
        timeout = aiohttp.ClientTimeout(total=8)
        self.record("sent", {"type": f"{method} {root}{path}", "body": body or {}})
        while True:
            with contextlib.suppress(aiohttp.ClientError, OSError):
                url = f"{self.url()}{root}{path}"
                async with self.workload.http.request(
                    method, url, json=body, headers=headers, timeout=timeout
                ) as response:
                    answer: Event = await response.json()
                    if response.status == 200:
                        return answer
                    code = own_code(answer["error"])
                    if response.status in (404, 409) or code == "conversation_busy":
                        return None
                    if response.status not in (429, 503):
                        self.device.anomalies.append(f"{method} {root}{path}: {code}")
                        return None
            await asyncio.sleep(self.rng.uniform(0.1, 0.5))


async def observe(
    users: list[User], http: aiohttp.ClientSession, url: str
) -> dict[str, list[Observed]]:
    """Returns the conversations of each user as the API shows them."""
    found: dict[str, list[Observed]] = {}
    for user in users:
        listed = await _pages(http, f"{url}{CONVERSATIONS}", user)
        found[user.name] = [
            Observed(one, await _pages(http, f"{url}{CONVERSATIONS}/{one['id']}/items", user))
            for one in listed
        ]
    return found


async def _pages(http: aiohttp.ClientSession, url: str, user: User) -> list[Event]:
    found: list[Event] = []
    query = {"order": "asc", "limit": str(PAGE)}
    while True:
        async with asyncio.timeout(READ_SECONDS):
            async with http.get(url, params=query, headers=user.headers) as response:
                assert response.status == 200, await response.text()
                page = await response.json()
        found += page["data"]
        if not page["has_more"]:
            return found
        query["after"] = page["last_id"]
