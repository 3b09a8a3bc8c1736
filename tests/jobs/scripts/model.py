"""The specification of the scripts: a Python model that keeps its state in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from jobs.names import model_of

MAX_ATTEMPTS = 3
MAX_RUNNING = 2
LIMITS = ["waiting", "waiting_bytes", "requests", "tokens", "money", "input_tokens"]
SUBJECT_LIMITS = ["running", "requests", "tokens", "money"]
NO_LIMITS = {
    **{f"tenant_{what}": 0 for what in LIMITS},
    **{f"subject_{what}": 0 for what in SUBJECT_LIMITS},
    "account": "",
}
HOUR = 3_600_000
RUNNING, QUEUED = "running", "queued"
ENDS = ["completed", "incomplete", "failed", "cancelled"]


@dataclass
class Response:
    """The state of one response in the Python model."""

    owner: str
    log: list[bytes]
    queue_name: str = ""
    begins: bytes = b""
    status: str = QUEUED
    claim: str = ""
    attempt: int = 0
    failures: int = 0
    earlier_failures: int = 0
    cancel: bool = False
    delayed: bool = False
    fails: bool = False
    ran_out: bool = False
    due: bool = False
    ending: bool = False
    compacted: bool = False
    checkpoint: bytes = b""

    def push(self, expected: int, frames: list[bytes]) -> bool | None:
        """Appends entries if the log has the expected length.

        Returns True if they were appended, False if the log already ends with them, else None.
        """
        if len(self.log) == expected:
            self.log += frames
            return True
        if len(self.log) == expected + len(frames) and self.log[expected:] == frames:
            return False
        return None

    def begin(self) -> None:
        if self.begins:
            self.push(2, [self.begins])
            self.begins = b""

    def wait(self, claim: str) -> None:
        self.status, self.claim, self.ran_out = QUEUED, claim, False

    def run(self, claim: str) -> None:
        self.status, self.claim, self.ran_out, self.delayed = RUNNING, claim, False, False


@dataclass
class Model:
    """The specified behaviour. Each method returns the reply of the script with the same name."""

    all: dict[str, Response] = field(default_factory=dict)
    keys: dict[str, tuple[str, str]] = field(default_factory=dict)
    claims: dict[str, list[str]] = field(default_factory=dict)

    def submit(
        self, id_: str, owner: str, key: str, body: str, fails: bool, queue_name: str, begins: bytes
    ) -> list[Any]:
        if id_ in self.all:
            return [b"accepted"]
        if key and key in self.keys and self.keys[key][0] in self.all:
            first, first_body = self.keys[key]
            # The tests submit each job with its id as its trace context.
            return [b"same" if first_body == body else b"reused", *[first.encode()] * 2]
        self.all[id_] = Response(owner, logged(id_), queue_name, begins, fails=fails)
        if key:
            self.keys[key] = (id_, body)
        return [b"accepted"]

    def claim(
        self, claim: str, count: int, room: dict[str, int], granted: list[str], *, only: bool
    ) -> None:
        """Checks the jobs that a claim has returned.

        Higher tiers must come first. No AI model may exceed its free slots, and no owner the limit
        of running jobs. With `only`, AI models without an entry in `room` have no free slot. The
        order of owners is not specified.
        """
        if claim in self.claims:
            held = [id_ for id_ in self.claims[claim] if self._holds(id_, claim)]
            assert held == granted
            return
        for one in self.all.values():
            if one.status == QUEUED and one.delayed and one.due:
                one.delayed = one.due = False
        free = [id_ for id_, one in self.all.items() if one.status == QUEUED and not one.delayed]
        others = {model_of(one.queue_name) for one in self.all.values()} - {"", *room}
        room = room | dict.fromkeys(others if only else (), 0)
        for id_ in granted:
            fit = [one for one in free if self._fits(one, room)]
            assert id_ in fit
            assert rank(self.all[id_].queue_name) == min(
                rank(self.all[one].queue_name) for one in fit
            )
            free.remove(id_)
            self.all[id_].run(claim)
            if not self.all[id_].checkpoint:
                self.all[id_].attempt += 1
                self.all[id_].earlier_failures = self.all[id_].failures
            self.all[id_].begin()
            if (model := model_of(self.all[id_].queue_name)) in room:
                room[model] -= 1
        left = [one for one in free if self._fits(one, room)]
        assert len(granted) == count or (len(granted) < count and not left)
        if granted:
            self.claims[claim] = granted

    def _fits(self, id_: str, room: dict[str, int]) -> bool:
        owner = self.all[id_].owner
        running = sum(one.owner == owner and one.status == RUNNING for one in self.all.values())
        return running < MAX_RUNNING and room.get(model_of(self.all[id_].queue_name), 1) > 0

    def append(
        self, id_: str, claim: str, expected: int, frames: list[bytes], checkpoint: bytes
    ) -> list[Any]:
        one = self.all.get(id_)
        if one is None:
            return [b"gone"]
        if not self._holds(id_, claim):
            return [b"fenced"]
        if one.push(expected, frames) is None:
            return [b"diverged", len(one.log)]
        if one.checkpoint and checkpoint not in (b"", one.checkpoint):
            one.failures = one.earlier_failures
        one.checkpoint = checkpoint
        return [b"ok", len(one.log), int(one.cancel)]

    def begin_again(self, id_: str, claim: str, attempt: int, *, keeps: bool) -> list[Any]:
        one = self.all.get(id_)
        if one is None:
            return [b"gone"]
        if not self._holds(id_, claim):
            return [b"fenced"]
        one.attempt = max(one.attempt, attempt)
        one.earlier_failures = one.failures
        one.checkpoint = one.checkpoint if keeps else b""
        return [b"ok"]

    def finish(
        self, id_: str, claim: str, expected: int, status: str, frames: list[bytes]
    ) -> list[Any]:
        one = self.all.get(id_)
        if one is None:
            return [b"gone"]
        if one.claim != claim or one.status not in (RUNNING, status):
            return [b"fenced"]
        if one.status != RUNNING and len(one.log) != expected + len(frames):
            return [b"fenced"]
        if not one.compacted and one.push(expected, frames) is None:
            return [b"diverged", len(one.log)]
        one.status, one.ran_out = status, False
        return [b"ok", len(one.log)]

    def compact(self, id_: str, claim: str, log: list[bytes]) -> int:
        one = self.all.get(id_)
        if one is None or one.status not in ENDS:
            return 0
        one.compacted = one.compacted or (one.claim == claim and one.log == log)
        return int(one.compacted)

    def retry(self, id_: str, claim: str, *, keeps_checkpoint: bool) -> list[Any]:
        one = self.all.get(id_)
        if one is None:
            return [b"gone"]
        if one.status == QUEUED and one.claim == f"was {claim}":
            return [b"ok"]
        if not self._holds(id_, claim):
            return [b"fenced"]
        one.wait(f"was {claim}")
        one.failures += 1
        one.checkpoint = one.checkpoint if keeps_checkpoint else b""
        one.delayed, one.due = True, one.cancel
        return [b"ok"]

    def give_back(self, id_: str, claim: str) -> list[Any]:
        one = self.all.get(id_)
        if one is None:
            return [b"gone"]
        if one.claim == f"was {claim}":
            return [b"ok"]
        if not self._holds(id_, claim):
            return [b"fenced"]
        one.wait(f"was {claim}")
        return [b"ok"]

    def extend(self, held: list[tuple[str, str]]) -> list[Any]:
        answers = []
        for id_, claim in held:
            if self._holds(id_, claim):
                self.all[id_].ran_out = False
                answers.append(b"cancel" if self.all[id_].cancel else b"held")
            else:
                answers.append(b"lost" if id_ in self.all else b"gone")
        return answers

    def cancel(self, id_: str, expected: int, frames: list[bytes]) -> list[Any]:
        one = self.all.get(id_)
        if one is None:
            return [b"gone"]
        if one.status == RUNNING:
            one.cancel = True
            return [b"asked"]
        if one.status != QUEUED:
            return [b"ended"]
        if one.push(expected, frames) is None:
            return [b"diverged", len(one.log)]
        one.status, one.delayed = "cancelled", False
        return [b"cancelled"]

    def delete(self, id_: str) -> int:
        return int(self.all.pop(id_, None) is not None)

    def rescue(self, claim: str) -> tuple[int, set[str]]:
        requeued, granted = 0, set()
        for id_, one in self.all.items():
            if one.status == QUEUED and one.delayed and one.due:
                one.delayed = one.due = False
                requeued += 1
            elif one.status == RUNNING and one.ran_out:
                one.failures += not (one.cancel or one.ending)
                if one.ending or one.cancel or one.fails or one.failures >= MAX_ATTEMPTS:
                    one.ending = True
                    one.run(claim)
                    granted.add(id_)
                else:
                    one.wait("")
                    requeued += 1
        return requeued, granted

    def _holds(self, id_: str, claim: str) -> bool:
        one = self.all.get(id_)
        return one is not None and one.status == RUNNING and one.claim == claim


def logged(id_: str) -> list[bytes]:
    """Returns the log of a submitted job."""
    return [f"{kind} {id_}".encode() for kind in ("created", "queued")]


def rank(queue_name: str) -> int:
    """Returns the rank of a queue's tier. Tiers with lower ranks are served first."""
    return {"p": 1, "f": 3}.get(queue_name[:1], 2)
