"""A message or a reasoning item that has not ended yet."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from jobs.log import items
from jobs.log.items import Place

if TYPE_CHECKING:
    from jobs.log.items import Item, Part


@dataclass(slots=True)
class OpenPart:
    """A part of an item that has not ended yet, with the pieces of its text."""

    place: Place
    pieces: list[str] = field(default_factory=list)
    logprobs: list[Any] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)

    def whole(self) -> Part:
        part = items.part_of(self.place.kind, "".join(self.pieces))
        if self.place.kind == "output_text":
            part |= {"annotations": self.annotations, "logprobs": self.logprobs}
        return part


@dataclass(slots=True)
class OpenItem:
    """A message or a reasoning item that has not ended yet."""

    type: str
    item_id: str
    index: int
    provider_field: str = ""  # the provider's message field that contained the reasoning
    maker: str = ""
    parts: list[OpenPart] = field(default_factory=list)

    @classmethod
    def of(cls, index: int, item: Item) -> Self:
        """Returns a message of the log, whose only part is a text, so that more can be added."""
        (part,) = item["content"]
        place = Place(part["type"], item["id"], index)
        return cls("message", item["id"], index, parts=[OpenPart(place, [part["text"]])])

    def whole(self, status: str) -> Item:
        parts = [part.whole() for part in self.parts]
        if self.type == "message":
            return items.message(self.item_id, status, parts)
        return items.reasoning(self.item_id, status, parts, self.provider_field, self.maker)
