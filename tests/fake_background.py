"""The fake model's background responses: `POST /v1/responses` with `background`, and its retrieval.

The answer is generated whether or not anybody reads it. `GET /v1/responses/{id}?stream=true` sends
its events again, after `starting_after`, and then those that follow. `POST …/cancel` ends it.
`Background.rude` says how a rude endpoint answers the retrieval instead.
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.fake_wire import Call, Mode, Script, Wire

# The rude answers: the response is unknown, an event is left out, the rest belongs to another
# response, the complete text or all of the rest is another text, the answer is a web page, or
# there are no events; the request is forbidden, fails, or returns another response as one document;
# the stream is an error of another Holdline.
RUDE = (
    *("gone", "gap", "other_id", "other_whole", "other_text", "page", "nothing"),
    *("forbidden", "failing", "other_document"),
    *("response_gone", "starting_after_beyond_end"),
)


@dataclass
class Stored:
    """A response that the endpoint generates in the background."""

    id: str
    call: Call
    events: list[bytes] = field(default_factory=list)
    over: bool = False
    cancelled: bool = False
    grown: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    def add(self, payload: bytes) -> None:
        self.events.append(payload)
        self._grew()

    def end(self) -> None:
        self.over = True
        self._grew()

    def _grew(self) -> None:
        self.grown.set()
        self.grown = asyncio.Event()


class Recorder(Wire):
    """A wire that stores the events instead of sending them."""

    def __init__(self, stored: Stored) -> None:
        self._stored = stored
        self.whole = False
        self.chunked = True

    async def begin(self, *, chunked: bool = True) -> None:
        pass

    async def raw(self, data: bytes) -> None:
        pass  # the name of an event, which its payload repeats

    async def event(self, payload: Any) -> None:
        if isinstance(payload.get("response"), dict):
            payload = {**payload, "response": {**payload["response"], "id": self._stored.id}}
        self._stored.add(json.dumps(payload).encode())

    async def end(self) -> None:
        self.whole = True
        self._stored.end()

    def reset(self) -> None:
        self._stored.end()


class Background:
    """The responses that an endpoint generates or has generated in the background."""

    def __init__(self) -> None:
        self.stored: dict[str, Stored] = {}
        self.reads: list[str] = []
        # The number of events that were sent, also those that were sent again.
        self.sent = 0
        # The seconds until the endpoint accepts a request.
        self.accepts_after = 0.0
        # How the endpoint answers a retrieval: one of `RUDE`, or "" for the right answer.
        self.rude = ""
        # After this many events, a stream is cut, if the number is not 0.
        self.cuts_after = 0
        # The code of the error that such a stream ends with, or "" for none.
        self.cut_with = ""

    def begin(self, mode: Mode, script: Script, call: Call) -> Stored:
        stored = Stored(f"resp_up{len(self.stored)}", call)
        self.stored[stored.id] = stored

        async def generate() -> None:
            await mode(Recorder(stored), script, call)
            stored.end()

        stored.task = asyncio.create_task(generate())
        return stored

    def cancel(self) -> list[asyncio.Task[None]]:
        """Ends all generation, and returns its tasks."""
        tasks = [one.task for one in self.stored.values() if one.task is not None]
        for task in tasks:
            task.cancel()
        return tasks

    async def close(self) -> None:
        await asyncio.gather(*self.cancel(), return_exceptions=True)

    async def serve(self, method: str, target: str, wire: Wire) -> None:
        """Answers a retrieval or a cancellation."""
        parts = urlsplit(target)
        id_, _, verb = parts.path.removeprefix("/v1/responses/").partition("/")
        stored = self.stored.get(id_)
        self.reads.append(f"{method} {target.removeprefix('/v1')}")
        if stored is None or (self.rude == "gone" and method == "GET"):
            error = {"message": f"Response with id '{id_}' not found.", "param": "id"}
            await wire.plain(404, json.dumps({"error": error}))
        elif verb == "cancel":
            stored.cancelled = True
            assert stored.task is not None
            stored.task.cancel()
            stored.end()
            await wire.plain(200, json.dumps({"id": id_, "status": "cancelled"}))
        elif self.rude in ("forbidden", "failing"):
            status = 403 if self.rude == "forbidden" else 500
            await wire.plain(status, json.dumps({"error": {"message": "no"}}))
        elif self.rude == "other_document":
            message = {"type": "message", "role": "assistant", "content": "other"}
            document = {"id": "resp_other", "object": "response", "status": "completed"}
            await wire.plain(200, json.dumps(document | {"output": [message]}))
        elif self.rude in ("response_gone", "starting_after_beyond_end"):
            status = 410 if self.rude == "response_gone" else 400
            error = {"message": "no", "type": "invalid_request_error", "code": self.rude}
            await wire.begin()
            await wire.event({"type": "error", "status": status, "error": error})
            await wire.end()
        elif self.rude == "page":
            await wire.plain(200, "<p>Sign in", kind="text/html")
        else:
            after = int(parse_qs(parts.query)["starting_after"][0])
            await self.send(stored, wire, after + 1 + (self.rude == "gap"))

    async def send(self, stored: Stored, wire: Wire, first: int = 0) -> None:
        """Sends the events from number `first` on, as they arrive."""
        sent, again = 0, first > 0
        if not again:
            await asyncio.sleep(self.accepts_after)
        await wire.begin()
        while not (again and self.rude == "nothing"):
            grown = stored.grown
            for payload in stored.events[first:]:
                first += 1
                sent += 1
                self.sent += 1
                await wire.raw(b"data: %b\n\n" % self._changed(payload, again=again))
                if self.cuts_after and sent >= self.cuts_after:
                    if self.cut_with:
                        error = {"type": "server_error", "code": self.cut_with, "message": "no"}
                        await wire.event({"type": "error", "status": 503, "error": error})
                    wire.reset()
                    return
            if stored.over and first >= len(stored.events):
                break
            await grown.wait()
        await wire.end()

    def _changed(self, payload: bytes, *, again: bool) -> bytes:
        if not again:
            return payload
        if self.rude == "other_id":
            return payload.replace(b'"id": "resp_up', b'"id": "resp_other')
        if self.rude == "other_text" or (self.rude == "other_whole" and b".delta" not in payload):
            return re.sub(rb"\bc(\d+t)", rb"x\1", payload)
        return payload
