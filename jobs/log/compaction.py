"""Compacts a finished log into blocks: the same entries, byte for byte, in a tenth of the memory.

A log contains most text several times: the text of an answer is in the deltas, in three events that
close the item and in the last event, and the request is in four snapshots of the response. Nothing
is appended to a finished log, so it can be stored as compressed blocks:

    block   zlib([FORMAT, [text, ...], [row, ...]])
    row     a run of deltas with one prefix: [prefix, index of its text, [bytes of each piece, ...]]
            any other entry: [bytes or index of a text, ...], to be concatenated
    text    the concatenated pieces of a run, or any other long string

Compaction works on bytes and does not interpret events. Each entry keeps its index. Each block can
be expanded without the other blocks, so a reader of the end of a log expands only the last block.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Final

import msgpack  # type: ignore[import-untyped]

from jobs.ciphertext import unreadable
from jobs.errors import NewerFormat, Undecodable
from jobs.format import FORMAT, check_format

if TYPE_CHECKING:
    from collections.abc import Iterator

# The maximum number of entries in a block, and their maximum size before compression. One read of a
# log has the same limits, so it can return a whole block.
BLOCK_ENTRIES: Final = 2_000
BLOCK_BYTES: Final = 262_144
# The minimum length of a string that its block stores separately, as one of the block's texts.
# Shorter strings are not extracted: zlib alone compresses their repetitions well enough, because it
# finds repetitions within 32 KB.
MIN_TEXT_BYTES: Final = 1_024
# The maximum number of texts in a block. It bounds the cost of compaction, which searches every
# entry for every text.
MAX_TEXTS: Final = 32
# The compression level of zlib. Level 6 takes as long as level 1 and makes a block a tenth smaller.
# Level 9 makes it no smaller.
LEVEL: Final = 6
# The limit for the expansion of a block, against invalid data. The entries of a block exceed
# `BLOCK_BYTES` only if the block has a single large entry.
MAX_EXPANDED_BYTES: Final = 536_870_912

# The first two bytes of an encoded delta: a MessagePack array header, and a code from `codec`.
_DELTAS: Final = frozenset({b"\x95\x01", b"\x94\x07", b"\x95\x08", b"\x95\x09"})


@dataclass(frozen=True, slots=True)
class Block:
    """The compressed form, `data`, of `count` consecutive entries of a log."""

    count: int
    data: bytes


def compact(entries: list[bytes]) -> list[Block]:
    """Compacts the entries of a whole log and returns the resulting blocks in order."""
    return [_compacted(some) for some in _divided(entries)]


def expand(data: bytes, start: int = 0) -> list[bytes]:
    """Returns the entries of a block, beginning with the entry at index `start` of the block.

    Raises: NewerFormat, Undecodable.
    """
    try:
        unpacker = zlib.decompressobj(zdict=_DICTIONARY)
        packed = unpacker.decompress(data, MAX_EXPANDED_BYTES) + unpacker.flush()
        found = msgpack.unpackb(packed)
        check_format(found)
        _, texts, rows, *_ = found
        entries = _expanded(texts, rows, start)
    except NewerFormat:
        raise
    except Exception as error:  # zlib and msgpack raise errors of several classes
        raise unreadable(data, "block", error) from error
    if not unpacker.eof:
        raise Undecodable("the compacted block is truncated")
    return entries


def _expanded(texts: list[bytes], rows: list[list[Any]], start: int) -> list[bytes]:
    entries: list[bytes] = []
    for row in rows:
        if isinstance(row[-1], list):
            prefix, number, lengths = row
            skipped = min(start, len(lengths))
            start -= skipped
            entries += _run(prefix, texts[number], lengths, skipped)
        elif start:
            start -= 1
        else:
            entries.append(b"".join(p if isinstance(p, bytes) else texts[p] for p in row))
    return entries


def _divided(entries: list[bytes]) -> Iterator[list[bytes]]:
    some: list[bytes] = []
    size = 0
    for entry in entries:
        if some and (len(some) == BLOCK_ENTRIES or size + len(entry) > BLOCK_BYTES):
            yield some
            some, size = [], 0
        some.append(entry)
        size += len(entry)
    if some:
        yield some


def _compacted(entries: list[bytes]) -> Block:
    texts: list[bytes] = []
    rows: list[list[Any]] = []
    prefix: bytes | None = None  # the prefix of the current run of deltas
    pieces: list[bytes] = []

    def end_run() -> None:
        if prefix is not None:
            rows.append([prefix, len(texts), list(map(len, pieces))])
            texts.append(b"".join(pieces))

    for entry in entries:
        piece = _string_after(prefix, entry)
        if piece is None:
            end_run()
            prefix = _prefix(entry)
            pieces = []
            piece = _string_after(prefix, entry)
        if piece is None:
            prefix = None
            rows.append(_spliced(entry, texts))
        else:
            pieces.append(piece)
    end_run()
    packer = zlib.compressobj(LEVEL, zdict=_DICTIONARY)
    packed = packer.compress(msgpack.packb([FORMAT, texts, rows], use_bin_type=True))
    return Block(len(entries), packed + packer.flush())


def _prefix(entry: bytes) -> bytes | None:
    """Returns the bytes of a delta entry before its text, or None if the entry is not a delta."""
    if entry[:2] not in _DELTAS:
        return None
    try:
        text = msgpack.unpackb(entry)[-1]
        return entry.removesuffix(_header(len(text.encode())) + text.encode())
    except Exception:  # noqa: BLE001 - an undecodable entry is stored unchanged
        return None


def _string_after(prefix: bytes | None, entry: bytes) -> bytes | None:
    """Returns the string after the prefix if it fills the rest of the entry, otherwise None."""
    if prefix is None or not entry.startswith(prefix):
        return None
    at = len(prefix)
    size = _HEADER_SIZES.get(entry[at : at + 1], 1)
    text = entry[at + size :]
    return text if entry[at : at + size] == _header(len(text)) else None


# Maps the first byte of a MessagePack string to the size of its header. Strings of fewer than 32
# bytes have a header of one byte and are not listed.
_HEADER_SIZES: Final = {b"\xd9": 2, b"\xda": 3}
_SHORT: Final = [bytes([0xA0 | length]) for length in range(32)]


def _header(length: int) -> bytes:
    """Returns the MessagePack header of a string of `length` bytes.

    For 65,536 bytes or more, returns a header that matches no string, because a delta has at most
    16 KB.
    """
    if length < 32:
        return _SHORT[length]
    if length < 256:
        return bytes([0xD9, length])
    return b"\xda" + length.to_bytes(2, "big") if length < 65_536 else b"\xdb"


def _run(prefix: bytes, text: bytes, lengths: list[int], skipped: int) -> list[bytes]:
    ends = list(accumulate(lengths, initial=0))[skipped:]
    return [prefix + _header(end - at) + text[at:end] for at, end in pairwise(ends)]


def _spliced(entry: bytes, texts: list[bytes]) -> list[Any]:
    """Splits an entry into parts, in which the index of a text replaces each long text.

    Adds long strings of the entry to `texts` if they are not in it yet.
    """
    row: list[Any] = [entry]
    if len(entry) < MIN_TEXT_BYTES:
        return row
    for number, text in enumerate(texts):
        if len(text) >= MIN_TEXT_BYTES:
            row = _split(row, text, number)
    if any(isinstance(part, bytes) and len(part) >= MIN_TEXT_BYTES for part in row):
        for text in _long_strings(entry):
            if len(texts) < MAX_TEXTS and text not in texts:
                row = _split(row, text, len(texts))
                texts.append(text)
    return row


def _split(row: list[Any], text: bytes, number: int) -> list[Any]:
    parts: list[Any] = []
    for part in row:
        if isinstance(part, bytes) and text in part:
            for piece in part.split(text):
                parts += [piece, number]
            parts.pop()
        else:
            parts.append(part)
    return parts


# Matches the MessagePack header of a string of `MIN_TEXT_BYTES` or more. It may also match bytes
# inside another string, so a match only means that the entry has to be decoded.
_LONG_HEADER: Final = re.compile(rb"\xda[\x04-\xff]|\xdb", re.DOTALL)


def _long_strings(entry: bytes) -> list[bytes]:
    """Returns all long strings in an entry.

    The longest string is first, because it may contain another one.
    """
    found: set[bytes] = set()
    if not _LONG_HEADER.search(entry):
        return []
    try:
        waiting = [msgpack.unpackb(entry, strict_map_key=False)]
    except Exception:  # noqa: BLE001 - an undecodable entry is stored unchanged
        return []
    while waiting:
        match waiting.pop():
            case str(text) if len(text) >= MIN_TEXT_BYTES:
                found.add(text.encode(errors="surrogatepass"))
            case dict(fields):
                waiting += fields.values()
            case list(values):
                waiting += values
            case _:
                pass
    return sorted(found, key=len, reverse=True)


# The content of zlib's preset dictionary: text that almost every log contains, and that makes up
# half of the log of a short answer. The dictionary is part of the block format, so a change of the
# dictionary requires a new `VERSION`.
_SNAPSHOT: Final[dict[str, Any]] = {
    "object": "response",
    "created_at": 1_800_000_000,
    "completed_at": None,
    "status": "queued",
    "error": None,
    "incomplete_details": None,
    "model": "gpt-5-mini",
    "previous_response_id": None,
    "instructions": None,
    "output": [],
    "tools": [],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "text": {"format": {"type": "text"}},
    "reasoning": None,
    "temperature": 1.0,
    "top_p": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "top_logprobs": 0,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "truncation": "disabled",
    "store": True,
    "background": False,
    "service_tier": "default",
    "metadata": {},
    "user": None,
    "safety_identifier": None,
    "prompt_cache_key": None,
    "usage": None,
}
_USUAL: Final[list[Any]] = [
    {"type": "function_call", "call_id": "call_", "name": "", "arguments": "{}"},
    {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": ""}]},
    {"type": "function", "name": "", "description": "", "parameters": {"type": "object"}},
    ["holdline:restarted", {"response_id": "", "attempt": 2, "reason": "worker_lost"}],
    ["response.incomplete", "response.failed", "failed", "cancelled", "incomplete"],
    {
        "input_tokens": 0,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 0,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 0,
    },
    {
        "holdline": {
            "attempts": 1,
            "sha256": "",
            "bytes": 0,
            "timing": {"queued_ms": 0, "first_token_ms": 0, "model_ms": 0, "total_ms": 0},
            "model": "",
        }
    },
    [5, 0, {"type": "message", "status": "in_progress", "role": "assistant", "content": []}],
    [6, 0, {"type": "message", "status": "completed", "role": "assistant", "content": []}],
    [3, "msg_", 0, 0, {"type": "output_text", "text": "", "annotations": [], "logprobs": []}],
    ["response.queued", "response.in_progress", "in_progress", "response.completed", "completed"],
    ["response.created", {"response": {"id": "resp_000", **_SNAPSHOT}}],
]
_DICTIONARY: Final[bytes] = b"".join(msgpack.packb(one, use_bin_type=True) for one in _USUAL)
