"""Assembles the function calls of a chat-completions stream from their pieces.

In the documented format, an index identifies each call, and a server sends the id and the name of a
call once. Many servers deviate from this format:

    index     is missing, a string, 0 for every call, or different when a call is repeated
    id        is missing, different in each piece, or the same for all calls
    name      is in every piece, divided into several pieces, or longer in each piece
    arguments are complete or in pieces, sent twice, preceded by a placeholder `{}`, longer in each
              piece, missing, at a different index than the name, or in the fields that Cohere or
              Anthropic use

The assembler applies these rules, in this order:

1. The index identifies a call.
2. A new id alone does not begin a call.
3. A new name begins a call, unless it continues the name of a function.
4. The same name begins another call if the arguments so far are complete.

Fragments that belong to no call make the stream malformed.

Some servers repeat in each piece all arguments so far. They are recognized if each piece begins
with the previous piece and the last piece is a JSON object. Such pieces cannot be joined, because
the last piece does not close the object that the first piece opens.

A complete call without arguments gets the arguments `{}`, as OpenAI sends them, because many
clients parse the arguments and fail on an empty text.
"""

from __future__ import annotations

import itertools
import json
from typing import Any, Final

from worker.upstream.deltas import Call, Malformed, TooLong, integer
from worker.upstream.provider_data import provider_data
from worker.upstream.surrogates import encodable

from .partial_call import MAX_HELD_BYTES, PartialCall

_PLACEHOLDER: Final = "{}"
_ARGUMENTS: Final = ("arguments", "parameters", "input")
_ENTRY_BYTES: Final = 500


class CallAssembler:
    """Assembles the calls of one stream.

    `functions` are the names of the functions that the request defines.
    """

    def __init__(self, functions: frozenset[str] = frozenset()) -> None:
        self._functions = functions
        self._calls: list[PartialCall] = []
        # The number of leading calls that were announced or that repeat another call.
        self._announced = 0
        self._by_index: dict[int, PartialCall] = {}
        self._by_id: dict[str, PartialCall] = {}
        self._held_bytes = 0

    @property
    def seen(self) -> bool:
        """True if at least one piece of a call was received."""
        return bool(self._calls)

    @property
    def leftovers(self) -> bool:
        """True if there are fragments.

        A fragment is a call without a name or with incomplete arguments.
        """
        return any(
            not call.name or call.rest or (call.scanner.begun and not call.scanner.complete)
            for call in self._calls
            if call.repeats is None
        )

    @property
    def whole(self) -> bool:
        """True if the stream contained calls and the arguments of all calls are complete."""
        return self.seen and not self.leftovers and all(c.scanner.complete for c in self._calls)

    def read(self, entries: Any) -> list[Call]:
        """Returns the pieces of calls in a delta's `tool_calls`.

        Raises: Malformed, TooLong.
        """
        if isinstance(entries, dict):  # TGI sends a single call without a list
            entries = [entries]
        if not isinstance(entries, list):
            raise Malformed("tool_calls is not a list")
        pieces: list[Call] = []
        entries = [entry for entry in entries if entry is not None]
        if not all(isinstance(entry, dict) for entry in entries):
            raise Malformed("a tool call is not an object")
        indexes = [integer(entry.get("index")) for entry in entries]
        if len(entries) > 1 and indexes == [None] * len(entries):
            indexes = list(range(len(entries)))
        for index, entry in zip(indexes, entries, strict=True):
            pieces += self._entry(index, entry)
        return pieces

    def read_legacy(self, function: Any) -> list[Call]:
        """Returns the pieces of a call in a delta's `function_call`.

        A response has at most one call in this older form.
        """
        if any(index >= 0 for index in self._by_index):
            # The server also sends the call in `tool_calls`, which is read instead.
            return []
        return self.read([{"index": -1, "function": function}])

    def untold(self, entries: Any) -> Any:
        """Returns the calls of a complete message without the calls that the stream already sent.

        Calls that the stream has sent completely are replaced by None, so that positions stay the
        same.
        """
        if not isinstance(entries, list):
            return entries
        told = [
            {"name": call.name, "arguments": call.rest or call.whole}
            for call in self._calls
            if call.repeats is None
        ]
        return [
            None
            if function and isinstance(entry, dict) and entry.get("function") == function
            else entry
            for entry, function in itertools.zip_longest(entries, told[: len(entries)])
        ]

    def flush(self, *, complete: bool) -> list[Call]:
        """Returns the pieces that were held back because further pieces could have followed.

        `complete` is False if the answer was truncated.
        """
        pieces: list[Call] = []
        for call in self._calls:
            call.add(call.joiner.joined("", last=True))
            call.settle(last=True)
            if (other := call.repeats) is not None:
                if _is_repetition(call.whole, other.whole):
                    continue
                # the arguments differ, so this is a separate call
                call.repeats, call.call_id = None, ""
            if call.rest and call.held.strip() == _PLACEHOLDER:
                call.arguments, call.held, call.rest = [call.rest], call.rest, ""
            elif _is_repetition(call.rest, call.whole):
                call.rest = ""
            if call.name:
                if not call.announced:
                    pieces.append(call.announce())
                if complete and not call.whole.strip():
                    call.add(_PLACEHOLDER)
                pieces += self._take_held(call)
        return pieces

    def _entry(self, index: int | None, entry: dict[str, Any]) -> list[Call]:
        # some servers put the function's fields into the call
        function = entry.get("function") or entry
        if not isinstance(function, dict):
            raise Malformed("the function of a tool call is not an object")
        given = entry.get("id")
        call_id = str(given) if isinstance(given, int) else string(entry, "id")
        name = string(function, "name")
        arguments = next(filter(None, map(function.get, _ARGUMENTS)), "")
        if isinstance(arguments, dict | list):
            arguments = json.dumps(arguments)  # Ollama's native API sends an object
        if not isinstance(arguments, str):
            raise Malformed("the arguments of a tool call are not a string")
        if not (call_id or name or arguments or entry.get("extra_content")):
            return []  # some servers send an empty call with each piece of text
        name = encodable(name)
        call = self._call(index, call_id, name, arguments)
        call.call_id = call.call_id or encodable(call_id)
        if name and (grown := self._grown(call.name, name)) != call.name:
            if call.announced:
                raise Malformed("the name of a tool call changed after its arguments had begun")
            call.name = grown
        call.add(call.joiner.joined(arguments))
        if not call.announced:
            self._held_bytes += _ENTRY_BYTES + len(arguments) + len(name) + len(call_id)
            if self._held_bytes > MAX_HELD_BYTES:
                raise TooLong
        original = call.repeats or call
        original.extra_content = provider_data(entry.get("extra_content")) or original.extra_content
        pieces = self._announce()
        if original.announced and original.extra_content:
            pieces.append(Call(original.key, "", "", "", original.extra_content))
            original.extra_content = None
        if call.announced and call.held.strip() != _PLACEHOLDER:
            pieces += self._take_held(call)
        return pieces

    def _announce(self) -> list[Call]:
        """Announces calls in their order, up to the first call whose name may be incomplete."""
        pieces: list[Call] = []
        for call in self._calls[self._announced :]:
            if call.repeats is None and not call.announced:
                if not self._ready(call):
                    break
                pieces.append(call.announce())
            self._announced += 1
        return pieces

    def _take_held(self, call: PartialCall) -> list[Call]:
        arguments, call.held = call.held, ""
        return [Call(call.key, "", "", arguments)] if arguments else []

    def _call(self, index: int | None, call_id: str, name: str, arguments: str) -> PartialCall:
        """Returns the call that an entry belongs to, and adds a call if the entry begins one."""
        by_id = self._by_id.get(call_id) if call_id else None
        if index is not None:
            known = self._by_index.get(index)
            if known is None and by_id is not None and not by_id.scanner.complete:
                known = by_id if name in ("", by_id.name) else None
            if known is None and not call_id and not name:
                known = self._begun()
        else:
            known = by_id or (self._calls[-1] if self._calls else None)
        if known is None:
            return self._new(index, call_id, name, by_id)
        if known.scanner.complete:
            if self._is_head(known, call_id, name, arguments):
                known.pending_id = call_id or known.pending_id or ""
                return known
            goes_on = bool(name) and self._grown(known.name, name) != known.name
            if known.pending_id is not None and (
                goes_on or (arguments and name in ("", known.name))
            ):
                call_id, known.pending_id = call_id or known.pending_id, None
                return self._new(index, call_id, known.name, self._by_id.get(call_id), known)
        if self._is_another(known, name, arguments):
            return self._new(index, call_id, name, by_id, known)
        return self._registered(known, index, call_id)

    def _begun(self) -> PartialCall | None:
        """Returns the last call if none of its arguments have arrived yet.

        Some servers send the arguments of a call at a different index than its name.
        """
        last = self._calls[-1] if self._calls else None
        begun = last is not None and (last.pending_id is not None or not last.arguments)
        return last if begun else None

    def _new(
        self,
        index: int | None,
        call_id: str,
        name: str,
        by_id: PartialCall | None,
        before: PartialCall | None = None,
    ) -> PartialCall:
        """Adds a call.

        `before` is the earlier call at the same index or with the same id, if there is one.

        As long as the new call does not differ from the earlier call, it may be a repetition of
        that call.
        """
        first = by_id or (before if index is not None and not call_id else None)
        repeats = first is not None and first.scanner.complete and name in ("", first.name)
        call = PartialCall(
            len(self._calls), encodable(call_id), name, repeats=first if repeats else None
        )
        self._calls.append(call)
        return self._registered(call, index, call_id)

    def _registered(self, call: PartialCall, index: int | None, call_id: str) -> PartialCall:
        if index is not None:
            self._by_index[index] = call
        if call_id:
            self._by_id.setdefault(call_id, call)
        return call

    def _is_head(self, known: PartialCall, call_id: str, name: str, arguments: str) -> bool:
        """Returns True if an entry without arguments may begin another call of the same function.

        The entry may also be an empty repetition of the known call. Only later entries show which
        case applies.
        """
        if arguments or name not in ("", known.name):
            return False
        again = bool(name) and not (call_id and call_id == known.call_id)
        return again or known.pending_id is not None

    def _is_another(self, known: PartialCall, name: str, arguments: str) -> bool:
        """Returns True if an entry with the index or id of a known call begins another call."""
        if not name or not known.name:
            return False
        if name != known.name:
            return self._grown(known.name, name) == known.name
        return known.scanner.complete and bool(arguments)

    def _grown(self, name: str, piece: str) -> str:
        """Returns the name, extended by `piece` if that continues the name."""
        if not name or (piece.startswith(name) and name not in self._functions):
            return piece
        if self._begins_function(name + piece) and not {name, piece} <= self._functions:
            return name + piece
        return name

    def _begins_function(self, name: str) -> bool:
        return any(function.startswith(name) for function in self._functions)

    def _ready(self, call: PartialCall) -> bool:
        """Returns True if the name of the call is complete."""
        if not call.name or call.announced:
            return call.announced
        longer = any(
            function.startswith(call.name) and function != call.name for function in self._functions
        )
        return not longer or (call.name in self._functions and bool(call.arguments))


def string(holder: dict[str, Any], name: str) -> str:
    """Returns the text of a field, or "" if the field is missing or null.

    Raises: Malformed if the field is not a string.
    """
    value = holder.get(name) or ""
    if not isinstance(value, str):
        raise Malformed(f"{name} is not a string")
    return value


def _is_repetition(text: str, whole: str) -> bool:
    """Returns True if `text` repeats the complete arguments `whole`, or their beginning."""
    if whole.startswith(text) or not text.replace(whole, "").strip():
        return True
    try:
        return bool(json.loads(text) == json.loads(whole))
    except (ValueError, RecursionError):
        return False
