"""The results of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from torture.case import Case, Weight
from torture.target import Claim, Target
from torture.timeline import Timeline

# The version of the suite, which the results contain.
VERSION: Final = "1"


class Verdict(StrEnum):
    """The result of a case.

    `impossible` means that the target claims a group of cases but lacks a need of this one, such as
    a second server. `error` means that the suite itself has failed, or could not start the
    target.
    """

    PASSED = "passed"
    FAILED = "failed"
    NOT_CLAIMED = "not claimed"
    IMPOSSIBLE = "not possible"
    ERROR = "error"


BAD: Final = frozenset({Verdict.FAILED, Verdict.ERROR})
# The results of cases that are not claimed. The words differ from those of verdicts.
_WITHOUT_CLAIM: Final = {
    Verdict.PASSED: "would pass",
    Verdict.FAILED: "would fail",
    Verdict.ERROR: "cannot be run",
    Verdict.IMPOSSIBLE: "not possible",
}


@dataclass
class Result:
    """The result of one case.

    Attributes:
        claim: the promise of the target that the case tests, or None.
        weight: that of the case, or `pays twice` if only the number of calls is wrong.
        if_claimed: the verdict that a case without a claim would get; None if it was not run.
        calls: the number of model calls for each prompt, in the order of the prompts.
        output: the last lines that each process printed during a bad case.
    """

    case: Case
    verdict: Verdict
    claim: Claim | None
    weight: Weight
    reason: str = ""
    seconds: float = 0
    if_claimed: Verdict | None = None
    calls: list[int] = field(default_factory=list)
    timeline: Timeline = field(default_factory=Timeline)
    output: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def bad(self) -> bool:
        """True if the case has failed, or would fail if the target claimed it."""
        return self.verdict in BAD or self.if_claimed in BAD

    @property
    def without_claim(self) -> str:
        """The result of a case that was run without a claim, such as `would pass`, or else ""."""
        return _WITHOUT_CLAIM[self.if_claimed] if self.if_claimed else ""


@dataclass
class Report:
    """The results of one run."""

    target: Target
    version: str
    seed: int
    began: datetime
    results: list[Result]

    @property
    def failed(self) -> list[Result]:
        """The results that make the run fail."""
        return [one for one in self.results if one.verdict in BAD]

    @property
    def tried(self) -> list[Result]:
        """The results of cases that were run without a claim."""
        return [one for one in self.results if one.if_claimed]

    def counts(self) -> str:
        """Returns for example `3 passed, 2 not claimed (1 would pass, 1 would fail)`."""
        verdicts = [one.verdict for one in self.results]
        shown = [f"{verdicts.count(one)} {one}" for one in Verdict if one in verdicts]
        tried = [one.if_claimed for one in self.tried]
        words = [
            f"{tried.count(one)} {text}" for one, text in _WITHOUT_CLAIM.items() if one in tried
        ]
        return ", ".join(shown) + (f" ({', '.join(words)})" if words else "")
