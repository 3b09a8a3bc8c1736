"""A call of a client-side tool that has not ended yet."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from jobs.log import items
from jobs.log.items import ARGUMENTS, CUSTOM_INPUT, SHELL_COMMAND, Place

from .upstream.chat.custom_input import InputDecoder
from .upstream.chat.tool_shapes import WHOLE, action_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobs.log.codec import Event
    from jobs.log.items import Item

    from .upstream.chat.toolbox import Tool

# Maps the type of a tool to the prefix of the ids of its calls.
PREFIXES: Final = {
    "function": "fc",
    "custom": "ctc",
    "local_shell": "lsh",
    "shell": "sh",
    "apply_patch": "apc",
    "tool_search": "tsc",
}


@dataclass(slots=True)
class OpenCall:
    """A call that has not ended yet.

    No event is sent for the call until the name of its function is known. Then `tool`, `item_id`
    and `index` are set. `pieces` are the pieces of the arguments, or of the decoded input of a
    custom tool.

    The calls of some tools (`WHOLE`) are reported only at the end, because a client could execute a
    part of a command. `action` is the action of such a call, once its arguments are complete.
    """

    call_id: str = ""
    name: str = ""
    tool: Tool | None = None
    item_id: str = ""
    index: int = -1
    pieces: list[str] = field(default_factory=list)
    extra_content: dict[str, Any] | None = None
    decoder: InputDecoder | None = None
    action: dict[str, Any] | None = None
    complete: bool = False

    def begin(self, tool: Tool, item_id: str, index: int) -> None:
        """Sets the tool that the model calls, and the item's id and index."""
        self.tool, self.item_id, self.index = tool, item_id, index
        # Some servers send no call id, but the client needs a call id to send the result.
        self.call_id = self.call_id or f"call_{item_id.partition('_')[2]}"
        if tool.kind == "custom":
            self.decoder = InputDecoder()

    @property
    def streams(self) -> bool:
        """True if the arguments are passed on as they arrive."""
        return self.tool is not None and self.tool.kind not in WHOLE

    @property
    def place(self) -> Place:
        """The place of the arguments or the input."""
        return Place(CUSTOM_INPUT if self.decoder else ARGUMENTS, self.item_id, self.index)

    def decoded(self, text: str) -> str:
        """Takes the next piece of the arguments, and returns the text that is passed on."""
        text = self.decoder.feed(text) if self.decoder else text
        if text:
            self.pieces.append(text)
        return text if self.streams else ""

    def end(self) -> str:
        """Ends the arguments, and returns the rest of the text that is passed on.

        Raises: Malformed if the arguments do not have the parameters of the tool.
        """
        if self.complete or self.tool is None:
            return ""
        self.complete = True
        if self.tool.kind in WHOLE:
            self.action = action_of(self.tool.kind, "".join(self.pieces))
            return ""
        rest = self.decoder.end() if self.decoder else ""
        self.pieces.append(rest)
        return rest

    @property
    def commands(self) -> list[str]:
        """The commands of a `shell_call`."""
        is_shell = self.action is not None and self.tool is not None and self.tool.kind == "shell"
        return self.action["commands"] if is_shell and self.action else []

    def item(self, status: str, extra: dict[str, Any] | None = None) -> Item:
        """Returns the item of a call whose tool is known.

        `extra` is data from the provider, which expects to receive it with the call in later
        requests.
        """
        tool, told = self.tool, "".join(self.pieces)
        assert tool is not None  # noqa: S101 - the caller has begun the call
        of_item = (self.item_id, status, self.call_id)
        match tool.kind:
            case "function":
                item = items.function_call(*of_item, tool.name, told, tool.namespace)
            case "custom":
                item = items.custom_tool_call(*of_item, tool.name, told, tool.namespace)
            case kind:
                item = items.action_call(kind, *of_item, self.action or {})
        return item if extra is None else item | {"extra_content": extra}

    def begun(self) -> Iterator[Event | tuple[Place, str]]:
        """Yields the events that begin a call whose arguments are complete, and its commands."""
        item = self.item("in_progress")
        if self.commands:
            item["action"] = {**item["action"], "commands": []}
        yield items.added(self.index, item)
        for number, command in enumerate(self.commands):
            place = Place(SHELL_COMMAND, self.item_id, self.index, number)
            yield items.command_added(place)
            yield place, command
            yield items.command_done(place, command)
