"""The cases. Each tests one claim, and has the claim's source and its weight."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from torture.trial import Trial

# The reference of the standard.
REFERENCE: Final = "https://platform.openai.com/docs/api-reference"
GUIDES: Final = "https://platform.openai.com/docs/guides"
CREATE: Final = f"{REFERENCE}/responses/create"
STREAMING: Final = f"{REFERENCE}/responses-streaming"
BACKGROUND: Final = f"{GUIDES}/background"
RESUME: Final = f"{GUIDES}/background#streaming-a-background-response"
CANCEL: Final = f"{REFERENCE}/responses/cancel"
RETRIEVE: Final = f"{REFERENCE}/responses/get"
STATE: Final = f"{GUIDES}/conversation-state"
CONVERSATIONS: Final = f"{REFERENCE}/conversations"
WEBSOCKET: Final = f"{GUIDES}/websocket-mode"
CHAT: Final = f"{REFERENCE}/chat"
ERRORS: Final = f"{GUIDES}/error-codes"


class Weight(StrEnum):
    """The damage to a user if the claim is broken. The worst one comes first."""

    LOSES = "loses answers"
    PAYS = "pays twice"
    MISLEADS = "misleads"
    INCONVENIENT = "inconvenient"


Run = Callable[["Trial"], Awaitable[None]]


@dataclass(frozen=True)
class Case:
    """A test of one claim.

    Attributes:
        id: `group.name`, and `group.name.way` if the client can follow the answer in several ways.
        claim: one sentence.
        section: the URL of the section of the standard that the claim is about.
        needs: what the target must offer; see `torture.target.Target.offers`.
        deadline: the maximum duration in seconds, without the target's `recovery_seconds`.
    """

    id: str
    claim: str
    section: str
    weight: Weight
    needs: frozenset[str]
    deadline: float
    run: Run


CASES: Final[dict[str, Case]] = {}


def case(
    name: str,
    claim: str,
    section: str,
    weight: Weight,
    *needs: str,
    deadline: float = 30,
) -> Callable[[Run], Run]:
    """Registers a function as a case."""

    def register(run: Run) -> Run:
        if name in CASES:
            raise ValueError(f"two cases have the id {name}")
        CASES[name] = Case(name, claim, section, weight, frozenset(needs), deadline, run)
        return run

    return register
