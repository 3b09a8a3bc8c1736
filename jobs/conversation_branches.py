"""Finds the items of one branch of a conversation.

Each response in a conversation continues one earlier response, or only the items before the first
response. So the turns form a tree. Regenerated answers and edited prompts are branches of it. The
log of the conversation has the items of all branches, in the order of their appends.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

# Stands for the turn that consists of the items before the first response.
BEGINNING: Final = ""


@dataclass(slots=True)
class Branches:
    """The turns of a conversation.

    `previous` maps each response to the one that it continues, or to `BEGINNING`. `ranges` maps
    each response to the ranges of its items in the log.
    """

    previous: dict[str, str] = field(default_factory=dict)
    ranges: dict[str, list[tuple[int, int]]] = field(default_factory=dict)

    def chain(self, response_id: str) -> list[int]:
        """Returns the indexes of the items of a response and of all turns that it continues.

        The oldest turn comes first. For `BEGINNING`, returns only the items before the first
        response. Raises: LookupError if the response is not a turn of the conversation.
        """
        if response_id != BEGINNING and response_id not in self.previous:
            raise LookupError(response_id)
        turns: dict[str, None] = {}
        # Redis may have lost a turn that a later one continues. The branch then begins after it.
        while response_id in self.previous and response_id not in turns:
            turns[response_id] = None
            response_id = self.previous[response_id]
        return [
            index
            for turn in (BEGINNING, *reversed(turns))
            for first, stop in self.ranges.get(turn, ())
            for index in range(first, stop)
        ]


def branches_of(events: Iterable[tuple[str, tuple[Any, ...]]]) -> Branches:
    """Returns the turns of a conversation, from the kinds and values of its events.

    Items that a client has added belong to the newest turn before them.
    """
    found = Branches()
    newest = BEGINNING
    for kind, values in events:
        if kind == "response_created":
            newest, previous, *_ = values
            found.previous.setdefault(newest, previous)
        elif kind == "items":
            first, stop, response_id, *_ = values
            turn = response_id if response_id in found.previous else newest
            found.ranges.setdefault(turn, []).append((first, stop))
    return found
