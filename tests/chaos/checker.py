"""Checks a finished run against the promises. Does no I/O.

I1   a log only grows, by appends
I2   no attempt writes after a newer one has started
I3   a log has exactly one terminal event, which is its last
I4   every acknowledged response ends within the bound after the faults have ended
I5   a client's events are a prefix of the log: no gap, no repeat, in order
I6   every model call is an attempt in the log, and one key creates one response
I7   no client sees another response's data
I10  every loss is reported with an error code
G7   a completed answer is complete
D1…  the rules for devices that follow conversations: see `device_rules`
G5   in a profile whose models continue their answers, no output is lost or generated twice
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import partial

from server.api.failures import translated
from tests.chaos.device_rules import check_devices
from tests.chaos.history import Event, History
from tests.chaos.log_rules import TERMINAL, TOKEN, LogChecker
from tests.chaos.segments import Segment, TraceReader
from worker.upstream.chat.continuation import MIN_OVERLAP

# After one of these errors, the request can be retried and no data is lost.
PASSING = frozenset(
    {
        "already_followed",
        "busy",
        "queue_full",
        "server_restarting",
        "service_unavailable",
        "storage_full",
        "too_many",
    }
)
DELETED = frozenset({"response_gone", "response_not_found"})
LOST = DELETED | {"response_rolled_back", "starting_after_beyond_end"}
# The maximum ratio of generated to delivered tokens.
MAX_GENERATED_RATIO = 1.05
ENDED = frozenset({"completed", "incomplete", "failed", "cancelled"})


@dataclass(frozen=True)
class Violation:
    """A broken promise, with an excerpt that shows it."""

    invariant: str
    response_id: str
    says: str
    excerpt: str = ""

    def __str__(self) -> str:
        head = f"{self.invariant} {self.response_id or '-'}: {self.says}"
        return head + "".join(f"\n      {line}" for line in self.excerpt.splitlines())


@dataclass
class Verdict:
    """The checker's findings. `counts` contains further statistics for the report."""

    violations: list[Violation] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)


def check(history: History) -> Verdict:
    """Checks a run and returns the verdict."""
    checker = _Checker(history)
    checker.run()
    return checker.verdict


class _Checker:
    def __init__(self, history: History) -> None:
        self.history = history
        self.verdict = Verdict()
        self.calls = {call.number: call for call in history.calls}
        self.markers = {id_: job.marker for id_, job in history.jobs.items()}
        for trace in history.traces:
            for line in trace.entries:
                if line.what == "received" and "response" in line.data:
                    response = line.data["response"]
                    marker = (response.get("metadata") or {}).get("marker", "")
                    self.markers.setdefault(response["id"], marker)
        self.summaries = [TraceReader(trace, self.markers).summary for trace in history.traces]
        self.segments = [segment for summary in self.summaries for segment in summary.segments]
        self.deleted = {id_ for summary in self.summaries for id_ in summary.deleted}
        self.read: dict[str, LogChecker] = {}

    def run(self) -> None:
        for summary in self.summaries:
            for invariant, id_, says in summary.anomalies:
                self.complain(invariant, id_, says)
        for id_ in self.history.jobs:
            self.log(id_)
        for segment in self.segments:
            self.segment(segment)
        self.views()
        if not self.history.loss:
            self.model_calls()
            self.keys()
        if self.history.keeps_output:
            self.kept_output()
        for finding in check_devices(self.history.devices, self.history.observed):
            self.complain(finding.rule, "", f"{finding.about}: {finding.says}")
        self.count()

    def complain(
        self,
        invariant: str,
        id_: str,
        says: str,
        *,
        segment: Segment | None = None,
        seq: int | None = None,
    ) -> None:
        log = self.history.logs.get(id_, [])
        parts = [f"log   {text}" for text in _excerpt(list(enumerate(log)), seq)]
        if segment is not None:
            received = [(event["sequence_number"], event) for _, event in segment.events]
            who = f"{segment.client}/{segment.socket}"
            parts += [f"{who} {text}" for text in _excerpt(received, seq)]
        self.verdict.violations.append(Violation(invariant, id_, says, "\n".join(parts)))

    # Checks of logs

    def log(self, id_: str) -> None:
        job, log = self.history.jobs[id_], self.history.logs.get(id_, [])
        if not self.history.loss:
            self.read[id_] = self._log_checker(id_, job.marker)
            self.read[id_].read(log)
        ended = next((event for event in log if event["type"] in TERMINAL), None)
        if job.status not in ENDED:
            self.complain("I4", id_, f"is {job.status} forever")
        elif self.history.loss:
            return
        elif ended is None:
            self.complain("I3", id_, f"is {job.status}, but its log has no terminal event")
        elif ended["response"]["status"] != job.status:
            self.complain(
                "I3", id_, f"is {job.status}, but its log ends with {ended['response']['status']}"
            )

    def _log_checker(self, id_: str, marker: str) -> LogChecker:
        rude = self.history.rude
        return LogChecker(partial(self._about, id_), marker, self.calls, rude=rude)

    def _about(self, id_: str, invariant: str, says: str) -> None:
        self.complain(invariant, id_, says)

    # Checks of the events that clients received

    def segment(self, segment: Segment) -> None:
        numbers = [event["sequence_number"] for _, event in segment.events]
        for expected, number in enumerate(numbers, segment.start + 1):
            if number != expected:
                what = "repeated" if number < expected else f"received, {expected} is missing"
                self.complain(
                    "I5", segment.response_id, f"{number} {what}", segment=segment, seq=number
                )
                break
        ends = [
            index for index, (_, event) in enumerate(segment.events) if event["type"] in TERMINAL
        ]
        if ends and ends[0] != len(segment.events) - 1:
            self.complain(
                "I3", segment.response_id, "an event after the terminal one", segment=segment
            )
        log = self.history.logs.get(segment.response_id)
        if log is not None and not self.history.loss:
            for _, event in segment.events:
                number = event["sequence_number"]
                entry = log[number] if number < len(log) else None
                if entry is None or {**_sent(entry), "sequence_number": number} != event:
                    says = f"{number} received as {_short(event)}, but the log has {_short(entry)}"
                    self.complain("I1", segment.response_id, says, segment=segment, seq=number)
                    break
        allowed = PASSING
        if self.history.loss:
            allowed |= LOST
        elif segment.response_id in self.deleted:
            allowed |= DELETED
        for code in segment.codes:
            if code not in allowed:
                self.complain(
                    "I10",
                    segment.response_id,
                    f"{segment.client} received the error {code}",
                    segment=segment,
                )

    def views(self) -> None:
        """Checks all events that each client received for each response, over all connections."""
        whole: dict[tuple[str, str], list[Segment]] = {}
        for segment in self.segments:
            whole.setdefault((segment.client, segment.marker), []).append(segment)
        for (client, marker), segments in whole.items():
            ids = {segment.response_id for segment in segments if segment.response_id}
            codes = {code for segment in segments for code in segment.codes}
            if len(ids) > 1 and not self.history.loss and not ids & self.deleted:
                self.complain("I6", min(ids), f"{client}: one key created {len(ids)} responses")
            if not ids:
                if not (self.history.loss and codes & LOST):
                    self.complain("I4", "", f"{client} never received a response for {marker}")
                continue
            for id_ in ids:
                self.view(
                    id_, marker, [segment for segment in segments if segment.response_id == id_]
                )

    def view(self, id_: str, marker: str, segments: list[Segment]) -> None:
        base = segments[0].start
        have: list[Event] = []
        end_at: float | None = None
        for segment in segments:
            for at, event in segment.events:
                if event["sequence_number"] == base + 1 + len(have):
                    have.append(event)
                    if event["type"] in TERMINAL:
                        end_at = at
            end_at = segment.ended_at or end_at
        codes = {code for segment in segments for code in segment.codes}
        reported = codes & (LOST if self.history.loss else DELETED)
        if end_at is None:
            if not (reported and (self.history.loss or id_ in self.deleted)):
                says = f"{segments[0].client} has no end, only {len(have)} events after {base}"
                self.complain("I4", id_, says, segment=segments[-1])
        elif end_at > self.history.calm_at + self.history.bound:
            late = end_at - self.history.calm_at
            self.complain(
                "I4", id_, f"{segments[0].client} received the end {late:.1f} s after the faults"
            )
        if base == -1 and (self.history.loss or id_ not in self.history.logs):
            self._log_checker(id_, marker).read(have)

    # Checks of model calls

    def model_calls(self) -> None:
        ids: dict[str, list[str]] = {}
        for id_, marker in self.markers.items():
            ids.setdefault(marker, []).append(id_)
        calls = Counter(call.marker for call in self.history.calls)
        for marker, number in calls.items():
            mine = ids.get(marker, [])
            if not mine:
                self.complain(
                    "I6", "", f"{number} calls for {marker}, which belongs to no response"
                )
            elif not any(id_ in self.deleted for id_ in mine):
                read = [self.read[id_] for id_ in mine if id_ in self.read]
                attempts = sum(len(one.attempts) + one.continuations for one in read)
                if number > attempts:
                    self.complain("I6", mine[0], f"{number} calls for {attempts} attempts")

    def keys(self) -> None:
        made: dict[str, list[str]] = {}
        for id_, job in self.history.jobs.items():
            if id_ not in self.deleted:
                made.setdefault(job.marker, []).append(id_)
        for marker, ids in made.items():
            if len(ids) > 1:
                self.complain("I6", ids[0], f"{len(ids)} responses for a single key of {marker}")
        for id_ in {segment.response_id for segment in self.segments} - {""} - self.deleted:
            if id_ not in self.history.jobs:
                self.complain("I10", id_, "was acknowledged but is not in Redis")

    def kept_output(self) -> None:
        """Checks that each answer is complete, and that no output was lost or generated twice."""
        for id_, job in self.history.jobs.items():
            if job.status != "completed":
                self.complain("G5", id_, f"is {job.status}")
            model = self.history.logs[id_][0]["response"]["model"]
            shortest = MIN_OVERLAP if model == "continuing" else 0
            for attempt in self.read[id_].attempts[:-1]:
                if attempt.items and len(attempt.text.strip()) >= shortest:
                    self.complain("G5", id_, f"the output of attempt {attempt.number} was lost")
        generated, delivered = self._tokens()
        if generated > MAX_GENERATED_RATIO * delivered:
            self.complain("G5", "", f"{generated} tokens generated for {delivered} delivered")

    def _tokens(self) -> tuple[int, int]:
        """Returns the numbers of generated and of delivered tokens."""
        last = [read.attempts[-1].text for read in self.read.values() if read.attempts]
        delivered = sum(len(TOKEN.findall(text)) for text in last)
        return sum(call.generated for call in self.history.calls), delivered

    def count(self) -> None:
        counts = self.verdict.counts
        counts["tokens generated"], counts["tokens delivered"] = self._tokens()
        self.verdict.codes.update(code for segment in self.segments for code in segment.codes)
        for log in self.history.logs.values():
            kinds = Counter(event["type"] for event in log)
            counts["restarts"] += kinds["holdline:restarted"]
            counts["continuations"] += kinds["holdline:continued"]
            counts["entries"] += len(log)
        for job in self.history.jobs.values():
            counts[job.status] += 1
        counts["answers"] = len(set(self.markers))
        counts["deleted"] = len(self.deleted)
        counts["cancels asked"] = len(
            {id_ for summary in self.summaries for id_ in summary.cancelled}
        )
        counts["resumes"] = sum(summary.resumes for summary in self.summaries)
        counts["segments"] = len(self.segments)
        counts["events received"] = sum(len(segment.events) for segment in self.segments)
        counts["devices"] = len(self.history.devices)
        counts["device sockets"] = sum(one.sockets for one in self.history.devices)
        counts["device resumes"] = sum(one.resumes for one in self.history.devices)
        feeds = [feed for one in self.history.devices for feed in one.feeds.values()]
        counts["feeds"], counts["feed events"] = len(feeds), sum(len(one.events) for one in feeds)
        counts["calls"] = len(self.history.calls)
        counts["sockets"] = len({(segment.client, segment.socket) for segment in self.segments})


def _sent(entry: Event) -> Event:
    """Returns a log entry as a server sends it, with causes translated to API error codes."""
    if "response" not in entry:
        return entry
    return {**entry, "response": translated(entry["response"])}


def _short(event: Event | None) -> str:
    if event is None:
        return "nothing"
    word = event.get("delta") or event.get("attempt") or event.get("text")
    if "response" in event:
        word = event["response"]["status"]
    return str(event["type"]) + ("" if word is None else f" {str(word)[-60:]!r}")


def _excerpt(numbered: list[tuple[int, Event]], around: int | None) -> list[str]:
    shown = [(n, e) for n, e in numbered if around is None or abs(n - around) <= 3]
    left_out = len(shown) - 12
    return [
        *([f"... {left_out} before"] if left_out > 0 else []),
        *(f"{number:4} {_short(event)}" for number, event in shown[-12:]),
    ]
