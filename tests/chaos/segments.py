"""Divides a client's trace into segments. A segment is one response followed over one socket."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.chaos.history import ClientTrace, Event, TraceEntry
from tests.error_codes import own_code


@dataclass
class Segment:
    """A response followed on a socket: the request, and all numbered events after it."""

    client: str
    socket: int
    marker: str
    start: int
    response_id: str = ""
    events: list[tuple[float, Event]] = field(default_factory=list)
    codes: list[str] = field(default_factory=list)
    ended_at: float | None = None  # the time of the reply that the log has no further events

    @property
    def last(self) -> int:
        """The last sequence number received, or the resume position if no event was received."""
        return int(self.events[-1][1]["sequence_number"]) if self.events else self.start


@dataclass
class TraceSummary:
    """The segments, deletions, cancellations and anomalies found in a trace."""

    segments: list[Segment] = field(default_factory=list)
    deleted: set[str] = field(default_factory=set)
    cancelled: set[str] = field(default_factory=set)
    anomalies: list[tuple[str, str, str]] = field(default_factory=list)
    resumes: int = 0


class TraceReader:
    """Reads a single trace. `markers` maps the known response ids to their prompts' markers."""

    def __init__(self, trace: ClientTrace, markers: dict[str, str]) -> None:
        self._client = trace.client
        self._markers = markers
        self._lanes: dict[tuple[int, str | None], Segment] = {}
        self._sockets: dict[int, list[Segment]] = {}
        self.summary = TraceSummary()
        for entry in trace.entries:
            self._entry(entry)

    def _entry(self, entry: TraceEntry) -> None:
        match entry.what:
            case "sent":
                self._sent(entry)
            case "received":
                self._received(entry)
            case _:
                pass

    def _sent(self, entry: TraceEntry) -> None:
        message = entry.data
        match message["type"]:
            case "response.create":
                self._segment(
                    entry, Segment(self._client, entry.socket, message["metadata"]["marker"], -1)
                )
            case "holdline:resume":
                id_ = message["response_id"]
                marker = self._markers.get(id_, "")
                start = message["starting_after"]
                self._segment(entry, Segment(self._client, entry.socket, marker, start, id_))
                self.summary.resumes += 1
            case "delete":
                self.summary.deleted.add(message["response_id"])
            case "response.cancel":
                self.summary.cancelled.add(message["response_id"])
            case _:
                pass

    def _segment(self, entry: TraceEntry, segment: Segment) -> None:
        self._lanes[entry.socket, entry.data.get("stream_id")] = segment
        self._sockets.setdefault(entry.socket, []).append(segment)
        self.summary.segments.append(segment)

    def _received(self, entry: TraceEntry) -> None:
        event = entry.data
        kind = event["type"]
        if kind == "holdline:pong":
            self._pong(entry)
        elif kind == "error":
            self._error(entry)
        elif kind == "holdline:ended":
            self._nothing_left(entry)
        elif "sequence_number" in event:
            self._numbered(entry)
        elif kind == "holdline:queued":
            ids = {segment.response_id for segment in self._sockets.get(entry.socket, ())}
            if event["response_id"] not in ids and "" not in ids:
                self._anomaly(
                    "I7",
                    event["response_id"],
                    "a queue position of a response that was not requested",
                )

    def _nothing_left(self, entry: TraceEntry) -> None:
        """Checks the reply to a resume after the last event of a log."""
        segment = self._lanes.get((entry.socket, entry.data.get("stream_id")))
        id_, last = entry.data["response_id"], entry.data["sequence_number"]
        if segment is None or segment.response_id != id_ or segment.last != last:
            self._anomaly("I5", id_, f"the reply that the log ends at {last} fits no resume")
        else:
            segment.ended_at = entry.at

    def _numbered(self, entry: TraceEntry) -> None:
        event = {k: v for k, v in entry.data.items() if k != "stream_id"}
        lane = entry.data.get("stream_id")
        segment = self._lanes.get((entry.socket, lane))
        if segment is None:
            self._anomaly("I7", "", f"{event['type']} on lane {lane}, which has no request")
            return
        if "response" in event:
            id_ = event["response"]["id"]
            if segment.response_id not in ("", id_):
                self._anomaly("I7", id_, f"received instead of {segment.response_id}")
            segment.response_id = id_
        segment.events.append((entry.at, event))

    def _error(self, entry: TraceEntry) -> None:
        code = own_code(entry.data["error"])
        about, lane = entry.data.get("response_id"), entry.data.get("stream_id")
        segments = self._sockets.get(entry.socket, [])
        segment = self._lanes.get((entry.socket, lane))
        if about is not None:
            segment = next(
                (segment for segment in reversed(segments) if segment.response_id == about), segment
            )
        if segment is None:
            self._anomaly("I10", about or "", f"error {code} for no request")
        else:
            segment.codes.append(code)

    def _pong(self, entry: TraceEntry) -> None:
        segments = self._sockets.get(entry.socket, [])
        for id_, last in entry.data["responses"].items():
            mine = next(
                (segment for segment in reversed(segments) if segment.response_id == id_), None
            )
            if mine is None:
                if all(segment.response_id for segment in segments):
                    self._anomaly(
                        "I7", id_, "a pong contains a response that was not requested here"
                    )
            elif mine.last != last:
                self._anomaly("I5", id_, f"a pong contains {last}, but {mine.last} was received")

    def _anomaly(self, invariant: str, response_id: str, what: str) -> None:
        self.summary.anomalies.append((invariant, response_id, f"{self._client}: {what}"))
