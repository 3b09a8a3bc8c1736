"""A finished log <-> its blocks: the same entries, byte for byte, in a tenth of the room.

A log that grows holds each delta as an entry of its own, and says most things several times: the
text is in the deltas, in three closing events and in the last one, the request in four snapshots.
Nobody appends to a log that has ended, so it can be kept as

    block   zlib([VERSION, [text, ...], [row, ...]])
    row     a run of deltas of one place: [prefix, number of its text, [bytes of each piece, ...]]
            any other entry: [bytes or number of a text, ...], to be joined
    text    what a run says in all, or whatever else is long

All of it is about bytes: what comes back is what was there, whatever it means. An entry keeps its
index, and a block can be read without the others, so a reader of the end does not pay for the rest.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Final

import msgpack  # type: ignore[import-untyped]

from jobs.ciphertext import unreadable
from jobs.errors import Undecodable

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSION: Final = 1
# What one read gives, so that a block is one read.
BLOCK_ENTRIES: Final = 2_000
BLOCK_BYTES: Final = 262_144
# zlib finds what is repeated within 32 KB by itself; what is shorter than this, it finds as well.
LONG: Final = 1_024
# Each of them is looked for in each entry.
MOST_TEXTS: Final = 32
# A tenth smaller than with level 1, in the same time; level 9 gains nothing more.
LEVEL: Final = 6
# Nobody of ours makes a block that holds more than one entry beyond `BLOCK_BYTES`.
MOST_UNPACKED: Final = 536_870_912

# The entries that grow a text, by their first two bytes: an array, headed by a code of `codec`.
_DELTAS: Final = frozenset({b"\x95\x01", b"\x94\x07", b"\x95\x08", b"\x95\x09"})


@dataclass(frozen=True, slots=True)
class Block:
    """So many entries, sealed."""

    count: int
    data: bytes


def seal(entries: list[bytes]) -> list[Block]:
    """The blocks of a whole log, in order."""
    return [_sealed(some) for some in _divided(entries)]


def unseal(data: bytes, start: int = 0) -> list[bytes]:
    """The entries of a block from index `start` of the block on.

    Raises: Undecodable.
    """
    try:
        unpacker = zlib.decompressobj(zdict=_DICTIONARY)
        packed = unpacker.decompress(data, MOST_UNPACKED) + unpacker.flush()
        version, texts, rows = msgpack.unpackb(packed)
        entries = _unsealed(texts, rows, start) if version == VERSION else None
    except Exception as error:  # as in `codec`: two packages, each with errors of several kinds
        raise unreadable(data, "a block", error) from error
    if entries is None or not unpacker.eof:
        raise Undecodable(f"a block that is cut short, or of another version than {VERSION}")
    return entries


def _unsealed(texts: list[bytes], rows: list[list[Any]], start: int) -> list[bytes]:
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


def _sealed(entries: list[bytes]) -> Block:
    texts: list[bytes] = []
    rows: list[list[Any]] = []
    prefix: bytes | None = None  # of the run that the next entry may belong to
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
    packed = packer.compress(msgpack.packb([VERSION, texts, rows], use_bin_type=True))
    return Block(len(entries), packed + packer.flush())


def _prefix(entry: bytes) -> bytes | None:
    """What comes before the text of a delta, or None for any other entry."""
    if entry[:2] not in _DELTAS:
        return None
    try:
        text = msgpack.unpackb(entry)[-1]
        return entry.removesuffix(_header(len(text.encode())) + text.encode())
    except Exception:  # noqa: BLE001 - then it is kept as it is
        return None


def _string_after(prefix: bytes | None, entry: bytes) -> bytes | None:
    """The bytes of the one string that follows the prefix and ends the entry, if it is so."""
    if prefix is None or not entry.startswith(prefix):
        return None
    at = len(prefix)
    size = _HEADER_SIZES.get(entry[at : at + 1], 1)
    text = entry[at + size :]
    return text if entry[at : at + size] == _header(len(text)) else None


# The first byte of a longer string; a short one has its length in that very byte.
_HEADER_SIZES: Final = {b"\xd9": 2, b"\xda": 3}
_SHORT: Final = [bytes([0xA0 | length]) for length in range(32)]


def _header(length: int) -> bytes:
    """What MessagePack puts before a string of so many bytes; a delta has 16 KB at most."""
    if length < 32:
        return _SHORT[length]
    if length < 256:
        return bytes([0xD9, length])
    return b"\xda" + length.to_bytes(2, "big") if length < 65_536 else b"\xdb"


def _run(prefix: bytes, text: bytes, lengths: list[int], skipped: int) -> list[bytes]:
    ends = list(accumulate(lengths, initial=0))[skipped:]
    return [prefix + _header(end - at) + text[at:end] for at, end in pairwise(ends)]


def _spliced(entry: bytes, texts: list[bytes]) -> list[Any]:
    """The entry with a number wherever a long text stands that was there before."""
    row: list[Any] = [entry]
    if len(entry) < LONG:
        return row
    for number, text in enumerate(texts):
        if len(text) >= LONG:
            row = _split(row, text, number)
    if any(isinstance(part, bytes) and len(part) >= LONG for part in row):
        for text in _long_strings(entry):
            if len(texts) < MOST_TEXTS and text not in texts:
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


# How a string of `LONG` bytes or more begins; in a text of some alphabets also what does not.
_LONG_HEADER: Final = re.compile(rb"\xda[\x04-\xff]|\xdb", re.DOTALL)


def _long_strings(entry: bytes) -> list[bytes]:
    """The long strings anywhere in an entry, longest first: one may be a part of another."""
    found: set[bytes] = set()
    if not _LONG_HEADER.search(entry):
        return []
    try:
        waiting = [msgpack.unpackb(entry, strict_map_key=False)]
    except Exception:  # noqa: BLE001 - then it is kept as it is
        return []
    while waiting:
        match waiting.pop():
            case str(text) if len(text) >= LONG:
                found.add(text.encode(errors="surrogatepass"))
            case dict(fields):
                waiting += fields.values()
            case list(values):
                waiting += values
            case _:
                pass
    return sorted(found, key=len, reverse=True)


# What almost every log holds. zlib takes it as said before the block begins, which is half of a
# short answer. It is part of the format: another one is another version.
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
