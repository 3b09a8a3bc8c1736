"""Bytes in Redis <-> jobs and log entries.

An entry is one Responses event without its `sequence_number`, which is its index. The events of a
streamed text are positional arrays headed by a small code, because a log holds hundreds of them;
any other event is `[type, fields]`. Entries have no version number; instead, a code
once given never changes its meaning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgpack  # type: ignore[import-untyped]

from jobs.ciphertext import JOB, TURN, unreadable
from jobs.errors import Undecodable
from jobs.record import Job, TurnSlice

if TYPE_CHECKING:
    from jobs.cipher import Cipher

Event = dict[str, Any]

JOB_VERSION: Final = 1

# The appended entries, behind the index of the first one. A plain tuple, because a NamedTuple takes
# three times as long to make, and each event of each answer is one.
Appended = tuple[int, list[bytes]]


@dataclass(frozen=True, slots=True)
class Grown:
    """Entries that are too large for a notification were appended; the log now has `length`."""

    length: int


@dataclass(frozen=True, slots=True)
class Waits:
    """The response is queued again: `number` in its tenant's list, or a retry after `delay_ms`."""

    number: int
    delay_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class Deleted:
    """The response was deleted."""


TEXT_DELTA: Final = 1

# code -> (event type, fields that travel, fields that are always the same)
_POSITIONAL: Final[dict[int, tuple[str, tuple[str, ...], dict[str, Any]]]] = {
    TEXT_DELTA: (
        "response.output_text.delta",
        ("item_id", "output_index", "content_index", "delta"),
        {"logprobs": []},
    ),
    2: (
        "response.output_text.done",
        ("item_id", "output_index", "content_index", "text"),
        {"logprobs": []},
    ),
    3: ("response.content_part.added", ("item_id", "output_index", "content_index", "part"), {}),
    4: ("response.content_part.done", ("item_id", "output_index", "content_index", "part"), {}),
    5: ("response.output_item.added", ("output_index", "item"), {}),
    6: ("response.output_item.done", ("output_index", "item"), {}),
    7: ("response.function_call_arguments.delta", ("item_id", "output_index", "delta"), {}),
    8: (
        "response.reasoning_text.delta",
        ("item_id", "output_index", "content_index", "delta"),
        {},
    ),
    9: ("response.refusal.delta", ("item_id", "output_index", "content_index", "delta"), {}),
}
_CODES: Final = {kind: code for code, (kind, _, _) in _POSITIONAL.items()}
_TRAVELLING: Final = {
    code: (frozenset(fields) | frozenset(constant) | {"type"}, fields, constant)
    for code, (_, fields, constant) in _POSITIONAL.items()
}


def encode_event(event: Event) -> bytes:
    """The entry for an event that has a `type` and no `sequence_number`."""
    code = _CODES.get(event["type"])
    if code is not None:
        names, fields, constant = _TRAVELLING[code]
        if event.keys() == names and all(event[name] == constant[name] for name in constant):
            return _pack([code, *(event[name] for name in fields)])
    return _pack([event["type"], {k: v for k, v in event.items() if k != "type"}])


def encode_text_delta(item_id: str, output_index: int, content_index: int, text: str) -> bytes:
    """The entry for a text delta without log probabilities; equals that of `encode_event`."""
    return _pack([TEXT_DELTA, item_id, output_index, content_index, text])


def decode_event(entry: bytes) -> Event:
    """The event of an entry.

    Raises: Undecodable.
    """
    match _unpack(entry):
        case [int(code), *values] if code in _POSITIONAL:
            kind, fields, constant = _POSITIONAL[code]
            if len(values) != len(fields):
                raise Undecodable(f"entry code {code} with {len(values)} fields")
            return {"type": kind, **dict(zip(fields, values, strict=True)), **constant}
        case [str(kind), dict(rest)] if "type" not in rest:
            return {"type": kind, **rest}
        case _:
            raise Undecodable("a log entry of no known shape")


def encode_job(job: Job) -> bytes:
    """The bytes of a job, headed by their version."""
    context = [] if job.turns else job.context
    fields = (job.id, job.owner, job.created_at, job.params, context, job.context_bytes, job.turns)
    return _pack([JOB_VERSION, *fields])


def decode_job(data: bytes) -> Job:
    """The job of `encode_job`'s bytes.

    Raises: Undecodable, also for a version that a newer program wrote.
    """
    match _unpack(data):
        case [1, str(id_), str(owner), int(at), dict(params), list(context), int(size), [*turns]]:
            named = [TurnSlice(*turn) for turn in turns]
            return Job(id_, owner, at, params, context, size, named)
        case [int(version), *_] if version != JOB_VERSION:
            raise Undecodable(f"a job of version {version}; this program knows {JOB_VERSION}")
        case _:
            raise Undecodable("a job of no known shape")


def kept_job(job: Job, cipher: Cipher | None) -> bytes:
    """The bytes of a job in Redis, encrypted if there is a cipher."""
    data = encode_job(job)
    return data if cipher is None else cipher.encrypted(job.id, 0, [data], JOB)[0]


def kept_fingerprints(fingerprint: str, cipher: Cipher | None) -> str:
    """The fingerprint of a request as it is kept; with encryption, one for each key."""
    return fingerprint if cipher is None else cipher.fingerprints(fingerprint)


def job_of(response_id: str, kept: bytes, cipher: Cipher | None) -> Job:
    """The job of a response, from its bytes in Redis. Raises: EncryptionKeyMissing, Undecodable."""
    if cipher is not None:
        [kept] = cipher.decrypted(response_id, 0, [kept], JOB)
    return decode_job(kept)


def kept_turn(response_id: str, items: list[dict[str, Any]], cipher: Cipher | None) -> bytes:
    """The bytes of a turn's items in Redis, encrypted if there is a cipher."""
    data = _pack(items)
    return data if cipher is None else cipher.encrypted(response_id, 0, [data], TURN)[0]


def turn_of(response_id: str, kept: bytes, cipher: Cipher | None) -> list[dict[str, Any]]:
    """The items of a turn, from its bytes in Redis. Raises: EncryptionKeyMissing, Undecodable."""
    if cipher is not None:
        [kept] = cipher.decrypted(response_id, 0, [kept], TURN)
    items = _unpack(kept)
    if not isinstance(items, list):
        raise Undecodable("a turn of no known shape")
    return items


def decode_notification(payload: bytes) -> Appended | Grown | Waits | Deleted:
    """The change that a message on a log's channel announces.

    Raises: Undecodable.
    """
    change = _unpack(payload, raw=True)
    # The common case comes first: a class pattern, as below, takes longer than all of this.
    if type(change) is list and len(change) == 2:
        first, entries = change
        if type(first) is int and type(entries) is list:
            for entry in entries:
                if type(entry) is not bytes:
                    break
            else:
                return first, entries
    match change:
        case [int(first), int(count)]:
            return Grown(first + count)
        case [b"queued", int(number), int(delay_ms), bytes(reason)]:
            return Waits(number, delay_ms, reason.decode(errors="replace"))
        case [b"gone"]:
            return Deleted()
        case _:
            raise Undecodable("a notification of no known shape")


def _pack(value: Any) -> bytes:
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed


def _unpack(data: bytes, *, raw: bool = False) -> Any:
    # `unpackb` is called once for each value: a reused Unpacker crashed after an error
    # (CVE-2026-57585). The C and the Python version raise different classes of errors.
    try:
        return msgpack.unpackb(data, raw=raw, strict_map_key=False)
    except Exception as error:
        raise unreadable(data, "MessagePack", error) from error
