"""Encodes and decodes jobs, log entries, turns and notifications.

An entry is one Responses event without its `sequence_number`, which is the index of the entry. The
events of a streamed text are positional arrays that begin with a small code, because a log has
hundreds of them; any other event is `[type, fields]`. Entries have no version number; instead, the
meaning of a code never changes.
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

# The index of the first appended entry, and the entries. This is a plain tuple because creating a
# NamedTuple takes three times as long, and there is one for each event of each response.
Appended = tuple[int, list[bytes]]


@dataclass(frozen=True, slots=True)
class Grown:
    """Entries too large for a notification were appended; the log now has `length` entries."""

    length: int


@dataclass(frozen=True, slots=True)
class Waits:
    """The response is queued again: at `number` in its tenant's list, or after `delay_ms`."""

    number: int
    delay_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class Deleted:
    """The response was deleted."""


TEXT_DELTA: Final = 1

# code -> (event type, encoded fields, constant fields, which are not encoded)
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
    """Encodes an event that has a `type` and no `sequence_number`."""
    code = _CODES.get(event["type"])
    if code is not None:
        names, fields, constant = _TRAVELLING[code]
        if event.keys() == names and all(event[name] == constant[name] for name in constant):
            return _pack([code, *(event[name] for name in fields)])
    return _pack([event["type"], {k: v for k, v in event.items() if k != "type"}])


def encode_text_delta(item_id: str, output_index: int, content_index: int, text: str) -> bytes:
    """Encodes a text delta without log probabilities; the result equals that of `encode_event`."""
    return _pack([TEXT_DELTA, item_id, output_index, content_index, text])


def decode_event(entry: bytes) -> Event:
    """Decodes the event of an entry.

    Raises: Undecodable.
    """
    match _unpack(entry):
        case [int(code), *values] if code in _POSITIONAL:
            kind, fields, constant = _POSITIONAL[code]
            if len(values) != len(fields):
                raise Undecodable(f"a log entry with code {code} has {len(values)} fields")
            return {"type": kind, **dict(zip(fields, values, strict=True)), **constant}
        case [str(kind), dict(rest)] if "type" not in rest:
            return {"type": kind, **rest}
        case _:
            raise Undecodable("the log entry has an unknown format")


def encode_job(job: Job) -> bytes:
    """Encodes a job; the version of the encoding comes first."""
    context = [] if job.turns else job.context
    fields = (job.id, job.owner, job.created_at, job.params, context, job.context_bytes, job.turns)
    return _pack([JOB_VERSION, *fields])


def decode_job(data: bytes) -> Job:
    """Decodes a job.

    Raises: Undecodable, also for the version of a newer program.
    """
    match _unpack(data):
        case [1, str(id_), str(owner), int(at), dict(params), list(context), int(size), [*turns]]:
            named = [TurnSlice(*turn) for turn in turns]
            return Job(id_, owner, at, params, context, size, named)
        case [int(version), *_] if version != JOB_VERSION:
            raise Undecodable(
                f"unsupported job version {version}; this program supports {JOB_VERSION}"
            )
        case _:
            raise Undecodable("the job has an unknown format")


def kept_job(job: Job, cipher: Cipher | None) -> bytes:
    """Encodes a job for Redis and encrypts it if there is a cipher."""
    data = encode_job(job)
    return data if cipher is None else cipher.encrypted(job.id, 0, [data], JOB)[0]


def kept_fingerprints(fingerprint: str, cipher: Cipher | None) -> str:
    """Returns a request's fingerprint for Redis; with a cipher, one for each of its keys."""
    return fingerprint if cipher is None else cipher.fingerprints(fingerprint)


def job_of(response_id: str, kept: bytes, cipher: Cipher | None) -> Job:
    """Decrypts and decodes a job from Redis. Raises: EncryptionKeyMissing, Undecodable."""
    if cipher is not None:
        [kept] = cipher.decrypted(response_id, 0, [kept], JOB)
    return decode_job(kept)


def kept_turn(response_id: str, items: list[dict[str, Any]], cipher: Cipher | None) -> bytes:
    """Encodes a turn's items for Redis and encrypts them if there is a cipher."""
    data = _pack(items)
    return data if cipher is None else cipher.encrypted(response_id, 0, [data], TURN)[0]


def turn_of(response_id: str, kept: bytes, cipher: Cipher | None) -> list[dict[str, Any]]:
    """Decrypts and decodes a turn's items. Raises: EncryptionKeyMissing, Undecodable."""
    if cipher is not None:
        [kept] = cipher.decrypted(response_id, 0, [kept], TURN)
    items = _unpack(kept)
    if not isinstance(items, list):
        raise Undecodable("the turn has an unknown format")
    return items


def decode_notification(payload: bytes) -> Appended | Grown | Waits | Deleted:
    """Decodes the change that a message on a response's channel announces.

    Raises: Undecodable.
    """
    change = _unpack(payload, raw=True)
    # The common case comes first: a class pattern, as below, is slower than all these checks.
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
            raise Undecodable("the notification has an unknown format")


def _pack(value: Any) -> bytes:
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed


def _unpack(data: bytes, *, raw: bool = False) -> Any:
    # Each value has its own call of `unpackb`, because a reused Unpacker crashed after an error
    # (CVE-2026-57585). The C and the Python implementation raise errors of different classes.
    try:
        return msgpack.unpackb(data, raw=raw, strict_map_key=False)
    except Exception as error:
        raise unreadable(data, "MessagePack", error) from error
