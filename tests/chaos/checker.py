"""Reads a run that is over, and says everything that is not as it was promised. No I/O.

I1   a log only grows, entry after entry
I2   no attempt writes after a newer one has begun
I3   exactly one event ends a log, and it is the last
I4   what was acknowledged ends, within the bound after the faults have ended
I5   what a client has is the beginning of the log: no gap, no repeat, in order
I6   no call of the model that is not an attempt in the log; one key, one response
I7   nobody sees what is another's
I10  what was lost is said with a code
G7   completed means whole
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import partial

from tests.chaos.grammar import TERMINAL, Fold
from tests.chaos.legs import Leg, Reader
from tests.chaos.story import Event, Story

# Refusals after which asking again is right, and none of which loses anything.
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
ENDED = frozenset({"completed", "incomplete", "failed", "cancelled"})


@dataclass(frozen=True)
class Violation:
    """One promise that was not kept, and where to see it."""

    invariant: str
    response_id: str
    says: str
    excerpt: str = ""

    def __str__(self) -> str:
        head = f"{self.invariant} {self.response_id or '-'}: {self.says}"
        return head + "".join(f"\n      {line}" for line in self.excerpt.splitlines())


@dataclass
class Verdict:
    """What the checker found; `counts` is what a reader wants to know besides."""

    violations: list[Violation] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)


def check(story: Story) -> Verdict:
    """The verdict on a run."""
    checker = _Checker(story)
    checker.run()
    return checker.verdict


class _Checker:
    def __init__(self, story: Story) -> None:
        self.story = story
        self.verdict = Verdict()
        self.calls = {call.number: call for call in story.calls}
        self.markers = {id_: job.marker for id_, job in story.jobs.items()}
        for transcript in story.transcripts:
            for line in transcript.lines:
                if line.what == "came" and "response" in line.data:
                    response = line.data["response"]
                    marker = (response.get("metadata") or {}).get("marker", "")
                    self.markers.setdefault(response["id"], marker)
        self.reads = [Reader(transcript, self.markers).read for transcript in story.transcripts]
        self.legs = [leg for read in self.reads for leg in read.legs]
        self.deleted = {id_ for read in self.reads for id_ in read.deleted}
        self.attempts: dict[str, int] = {}

    def run(self) -> None:
        for read in self.reads:
            for invariant, id_, says in read.odd:
                self.complain(invariant, id_, says)
        for id_ in self.story.jobs:
            self.log(id_)
        for leg in self.legs:
            self.leg(leg)
        self.views()
        if not self.story.loss:
            self.model_calls()
            self.keys()
        self.count()

    def complain(
        self, invariant: str, id_: str, says: str, *, leg: Leg | None = None, seq: int | None = None
    ) -> None:
        log = self.story.logs.get(id_, [])
        parts = [f"log   {text}" for text in _excerpt(list(enumerate(log)), seq)]
        if leg is not None:
            came = [(event["sequence_number"], event) for _, event in leg.events]
            who = f"{leg.client}/{leg.socket}"
            parts += [f"{who} {text}" for text in _excerpt(came, seq)]
        self.verdict.violations.append(Violation(invariant, id_, says, "\n".join(parts)))

    # The logs

    def log(self, id_: str) -> None:
        job, log = self.story.jobs[id_], self.story.logs.get(id_, [])
        fold = Fold(partial(self._about, id_), job.marker, self.calls)
        if not self.story.loss:
            fold.read(log)
            self.attempts[id_] = len(fold.attempts)
        ended = next((event for event in log if event["type"] in TERMINAL), None)
        if job.status not in ENDED:
            self.complain("I4", id_, f"is {job.status} for ever")
        elif self.story.loss:
            return
        elif ended is None:
            self.complain("I3", id_, f"is {job.status}, and its log has no last event")
        elif ended["response"]["status"] != job.status:
            self.complain("I3", id_, f"is {job.status}; its log: {ended['response']['status']}")

    def _about(self, id_: str, invariant: str, says: str) -> None:
        self.complain(invariant, id_, says)

    # What came to clients

    def leg(self, leg: Leg) -> None:
        numbers = [event["sequence_number"] for _, event in leg.events]
        for expected, number in enumerate(numbers, leg.start + 1):
            if number != expected:
                what = "came again" if number < expected else f"came, {expected} is missing"
                self.complain("I5", leg.response_id, f"{number} {what}", leg=leg, seq=number)
                break
        ends = [index for index, (_, event) in enumerate(leg.events) if event["type"] in TERMINAL]
        if ends and ends[0] != len(leg.events) - 1:
            self.complain("I3", leg.response_id, "an event came after the last", leg=leg)
        log = self.story.logs.get(leg.response_id)
        if log is not None and not self.story.loss:
            for _, event in leg.events:
                number = event["sequence_number"]
                entry = log[number] if number < len(log) else None
                if entry is None or {**entry, "sequence_number": number} != event:
                    says = f"{number} came as {_short(event)}, the log says {_short(entry)}"
                    self.complain("I1", leg.response_id, says, leg=leg, seq=number)
                    break
        allowed = PASSING
        if self.story.loss:
            allowed |= LOST
        elif leg.response_id in self.deleted:
            allowed |= DELETED
        for code in leg.codes:
            if code not in allowed:
                self.complain("I10", leg.response_id, f"{leg.client} was told {code}", leg=leg)

    def views(self) -> None:
        """What each client has of each response, from all of its legs."""
        whole: dict[tuple[str, str], list[Leg]] = {}
        for leg in self.legs:
            whole.setdefault((leg.client, leg.marker), []).append(leg)
        for (client, marker), legs in whole.items():
            ids = {leg.response_id for leg in legs if leg.response_id}
            codes = {code for leg in legs for code in leg.codes}
            if len(ids) > 1 and not self.story.loss and not ids & self.deleted:
                self.complain("I6", min(ids), f"{client}: one key made {len(ids)} responses")
            if not ids:
                if not (self.story.loss and codes & LOST):
                    self.complain("I4", "", f"{client} was never answered about {marker}")
                continue
            for id_ in ids:
                self.view(id_, marker, [leg for leg in legs if leg.response_id == id_])

    def view(self, id_: str, marker: str, legs: list[Leg]) -> None:
        base = legs[0].start
        have: list[Event] = []
        end_at: float | None = None
        for leg in legs:
            for at, event in leg.events:
                if event["sequence_number"] == base + 1 + len(have):
                    have.append(event)
                    if event["type"] in TERMINAL:
                        end_at = at
        codes = {code for leg in legs for code in leg.codes}
        told = codes & (LOST if self.story.loss else DELETED)
        if end_at is None:
            if not (told and (self.story.loss or id_ in self.deleted)):
                says = f"{legs[0].client} has no end, only {len(have)} events after {base}"
                self.complain("I4", id_, says, leg=legs[-1])
        elif end_at > self.story.calm_at + self.story.bound:
            late = end_at - self.story.calm_at
            self.complain("I4", id_, f"{legs[0].client} had its end {late:.1f} s after the faults")
        if base == -1 and (self.story.loss or id_ not in self.story.logs):
            fold = Fold(partial(self._about, id_), marker, self.calls)
            fold.read(have)

    # What it cost

    def model_calls(self) -> None:
        ids: dict[str, list[str]] = {}
        for id_, marker in self.markers.items():
            ids.setdefault(marker, []).append(id_)
        calls = Counter(call.marker for call in self.story.calls)
        for marker, number in calls.items():
            mine = ids.get(marker, [])
            if not mine:
                self.complain("I6", "", f"{number} calls for {marker}, which is no response's")
            elif not any(id_ in self.deleted for id_ in mine):
                attempts = sum(self.attempts.get(id_, 0) for id_ in mine)
                if number > attempts:
                    self.complain("I6", mine[0], f"{number} calls for {attempts} attempts")

    def keys(self) -> None:
        made: dict[str, list[str]] = {}
        for id_, job in self.story.jobs.items():
            if id_ not in self.deleted:
                made.setdefault(job.marker, []).append(id_)
        for marker, ids in made.items():
            if len(ids) > 1:
                self.complain("I6", ids[0], f"{len(ids)} responses for the one key of {marker}")
        for id_ in {leg.response_id for leg in self.legs} - {""} - self.deleted:
            if id_ not in self.story.jobs:
                self.complain("I10", id_, "was acknowledged, and Redis does not have it")

    def count(self) -> None:
        counts = self.verdict.counts
        self.verdict.codes.update(code for leg in self.legs for code in leg.codes)
        for log in self.story.logs.values():
            kinds = Counter(event["type"] for event in log)
            counts["restarts"] += kinds["holdline:restarted"]
            counts["entries"] += len(log)
        for job in self.story.jobs.values():
            counts[job.status] += 1
        counts["answers"] = len(set(self.markers))
        counts["deleted"] = len(self.deleted)
        counts["cancels asked"] = len({id_ for read in self.reads for id_ in read.cancelled})
        counts["resumes"] = sum(read.resumes for read in self.reads)
        counts["legs"] = len(self.legs)
        counts["events received"] = sum(len(leg.events) for leg in self.legs)
        counts["calls"] = len(self.story.calls)
        counts["sockets"] = len({(leg.client, leg.socket) for leg in self.legs})


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
