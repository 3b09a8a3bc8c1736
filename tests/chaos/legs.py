"""A transcript -> its legs: one following of one response on one socket, from where to where."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.chaos.story import Event, Line, Transcript


@dataclass
class Leg:
    """What was asked, and every numbered event that came of it. `end` is how it came to its end."""

    client: str
    socket: int
    marker: str
    start: int
    response_id: str = ""
    events: list[tuple[float, Event]] = field(default_factory=list)
    codes: list[str] = field(default_factory=list)

    @property
    def last(self) -> int:
        """The last sequence number that came, or what was asked to be left out."""
        return int(self.events[-1][1]["sequence_number"]) if self.events else self.start


@dataclass
class Read:
    """What a transcript says: legs, what it asked to be deleted or cancelled, and what is odd."""

    legs: list[Leg] = field(default_factory=list)
    deleted: set[str] = field(default_factory=set)
    cancelled: set[str] = field(default_factory=set)
    odd: list[tuple[str, str, str]] = field(default_factory=list)
    resumes: int = 0


class Reader:
    """Reads one transcript. `markers` tells whose a response is, as far as that is known."""

    def __init__(self, transcript: Transcript, markers: dict[str, str]) -> None:
        self._client = transcript.client
        self._markers = markers
        self._lanes: dict[tuple[int, str | None], Leg] = {}
        self._sockets: dict[int, list[Leg]] = {}
        self.read = Read()
        for line in transcript.lines:
            self._line(line)

    def _line(self, line: Line) -> None:
        match line.what:
            case "sent":
                self._sent(line)
            case "came":
                self._came(line)
            case _:
                pass

    def _sent(self, line: Line) -> None:
        message = line.data
        match message["type"]:
            case "response.create":
                self._leg(line, Leg(self._client, line.socket, message["metadata"]["marker"], -1))
            case "holdline:resume":
                id_ = message["response_id"]
                marker = self._markers.get(id_, "")
                start = message["starting_after"]
                self._leg(line, Leg(self._client, line.socket, marker, start, id_))
                self.read.resumes += 1
            case "delete":
                self.read.deleted.add(message["response_id"])
            case "response.cancel":
                self.read.cancelled.add(message["response_id"])
            case _:
                pass

    def _leg(self, line: Line, leg: Leg) -> None:
        self._lanes[line.socket, line.data.get("stream_id")] = leg
        self._sockets.setdefault(line.socket, []).append(leg)
        self.read.legs.append(leg)

    def _came(self, line: Line) -> None:
        event = line.data
        kind = event["type"]
        if kind == "holdline:pong":
            self._pong(line)
        elif kind == "error":
            self._error(line)
        elif "sequence_number" in event:
            self._numbered(line)
        elif kind == "holdline:queued":
            ids = {leg.response_id for leg in self._sockets.get(line.socket, ())}
            if event["response_id"] not in ids and "" not in ids:
                self._odd("I7", event["response_id"], "a place in the queue that nobody asked for")

    def _numbered(self, line: Line) -> None:
        event = {k: v for k, v in line.data.items() if k != "stream_id"}
        lane = line.data.get("stream_id")
        leg = self._lanes.get((line.socket, lane))
        if leg is None:
            self._odd("I7", "", f"{event['type']} on lane {lane}, on which nothing was asked")
            return
        if "response" in event:
            id_ = event["response"]["id"]
            if leg.response_id not in ("", id_):
                self._odd("I7", id_, f"came where {leg.response_id} was asked for")
            leg.response_id = id_
        leg.events.append((line.at, event))

    def _error(self, line: Line) -> None:
        code = str(line.data["error"]["code"])
        about, lane = line.data.get("response_id"), line.data.get("stream_id")
        legs = self._sockets.get(line.socket, [])
        leg = self._lanes.get((line.socket, lane))
        if about is not None:
            leg = next((leg for leg in reversed(legs) if leg.response_id == about), leg)
        if leg is None:
            self._odd("I10", about or "", f"error {code} about nothing that was asked")
        else:
            leg.codes.append(code)

    def _pong(self, line: Line) -> None:
        legs = self._sockets.get(line.socket, [])
        for id_, last in line.data["responses"].items():
            mine = next((leg for leg in reversed(legs) if leg.response_id == id_), None)
            if mine is None:
                if all(leg.response_id for leg in legs):
                    self._odd("I7", id_, "a pong tells of a response that was not asked for here")
            elif mine.last != last:
                self._odd("I5", id_, f"a pong says {last}, and {mine.last} is what came")

    def _odd(self, invariant: str, response_id: str, what: str) -> None:
        self.read.odd.append((invariant, response_id, f"{self._client}: {what}"))
