"""Maps one item of an upstream's stream to the item that Holdline sends."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from jobs.log import items
from jobs.log.items import ARGUMENTS, TEXT_OF, Place
from worker.upstream.surrogates import SurrogateJoiner

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobs.log.items import Item, Part

KNOWN: Final = frozenset({"message", "reasoning", "function_call"})
_PREFIX: Final = re.compile(r"[a-z]{1,8}(?=_)", re.ASCII)
_PREFIXES: Final = {"message": "msg", "reasoning": "rs", "function_call": "fc"}


@dataclass(slots=True)
class UpstreamItem:
    """An item of the upstream.

    `item` is the version that Holdline sends, with the content that was sent so far.
    """

    type: str
    item: Item
    index: int = -1  # the output index that Holdline assigns when it announces the item
    announced: bool = False
    ids: set[str] = field(default_factory=set)
    confirmed: bool = False  # True if one of the ids was repeated; then the ids are reliable
    done: bool = False
    held: Item | None = None  # the upstream's item, merged at the end of the stream
    # the arguments of a call whose name is not known yet
    arguments: list[str] = field(default_factory=list)
    parts: dict[tuple[str, int, str], int] = field(default_factory=dict)
    joiners: dict[Place, SurrogateJoiner] = field(default_factory=dict)

    @property
    def is_in_log(self) -> bool:
        """True if all that the endpoint has sent of this item is in the log."""
        if self.done:
            return True
        halves = any(joiner.high for joiner in self.joiners.values())
        more = self.held is not None and has_text(self.held) and not has_text(self.item)
        return self.announced and not halves and not more

    def joined(self, place: Place, text: str) -> str:
        """Returns the next piece of a text, with split surrogate pairs joined."""
        return self.joiners.setdefault(place, SurrogateJoiner()).joined(text)

    @property
    def arguments_place(self) -> Place:
        """The place to which pieces of a call's arguments belong."""
        return Place(ARGUMENTS, self.item["id"], self.index)

    def begin(self, name: Callable[[str, int], str]) -> None:
        """Resets `item` to its initial state, and gives it an id in Holdline's format.

        The id has the usual prefix for the item's type. For an unknown type, it has the prefix of
        the upstream's id.
        """
        item = self.item
        usual = _PREFIXES.get(self.type, "")
        match_ = _PREFIX.match(str(item.get("id") or "")) or _PREFIX.match(f"{self.type}_")
        prefix = usual or (match_[0] if match_ else "item")
        own = self.item = {**item, "id": name(prefix, self.index)}
        if self.type not in KNOWN:
            return
        own["status"] = "in_progress"
        if self.type == "function_call":
            call_id = item.get("call_id")
            made = own["id"].replace("fc_", "call_", 1)
            own["call_id"] = call_id if isinstance(call_id, str) and call_id else made
            own["arguments"] = ""
        elif self.type == "message":
            own["role"] = item.get("role") or "assistant"
            own["content"] = []
        else:
            own["summary"] = []
            if "content" in item:
                own["content"] = []

    def find_part(
        self, group: str, number: int, kind: str, matched: set[int] | None = None
    ) -> int | None:
        """Returns the position of a part in the item that was sent, or None if the part is new.

        The positions of parts in a complete item may differ from the indexes in earlier events.
        Therefore a part of a complete item may match any known part of the same kind. `matched` are
        the positions that other parts have matched already.
        """
        ours = self.parts.get((group, number, kind))
        if ours is not None or matched is None:
            return ours
        for (in_group, _, of_kind), at in self.parts.items():
            if in_group == group and of_kind == kind and at not in matched:
                return at
        return None


def merged_parts(whole: Item, own: list[Part], group: str) -> list[Part]:
    """Returns the parts of a complete item, or the parts sent so far if it has none."""
    parts = whole.get(group)
    if not isinstance(parts, list) or not parts:
        return own
    found: list[Part] = []
    for number, part in enumerate(parts):
        if not isinstance(part, dict) or part.get("type") not in TEXT_OF:
            found.append(part)
            continue
        same = number < len(own) and own[number].get("type") == part["type"]
        known = own[number] if same else items.part_of(part["type"])
        found.append(known | {name: value for name, value in part.items() if value})
    return found


def check_names(item: Item) -> None:
    """Checks that a `call_id`, and the name of a function, are text: they are used as keys.

    Raises: TypeError.
    """
    for member in ("call_id", "name") if item["type"] == "function_call" else ("call_id",):
        if not isinstance(item.get(member), str | None):
            raise TypeError(f"the {member} of an item is not text")


def has_text(item: Item) -> bool:
    """Returns True if an item has any text other than its name."""
    return bool(text_of({**item, "name": ""}))


def name_of(item: dict[str, Any]) -> str:
    """Returns the function name in an item or in an event of a call, or ""."""
    name = item.get("name")
    return name if isinstance(name, str) else ""


def text_of(item: Item) -> str:
    """Returns the concatenated text of an item, for comparisons."""
    texts = [item.get("name"), item.get("arguments")]
    for group in ("summary", "content"):
        parts = item.get(group)
        texts += [
            part.get(TEXT_OF.get(str(part.get("type")), "text"))
            for part in (parts if isinstance(parts, list) else ())
            if isinstance(part, dict)
        ]
    return "".join(text for text in texts if isinstance(text, str))
