"""Encodes and decodes jobs, log entries, turns and notifications.

A log entry is one event of the Responses API without its `sequence_number`, which is the index of
the entry. A log has hundreds of events for streamed text, so these events are encoded as positional
arrays that begin with a small code. Any other event is encoded as `[type, fields]`. Entries have no
version number, because the meaning of a code never changes. `jobs.format` describes the versions of
the other values.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

import msgpack  # type: ignore[import-untyped]
import msgspec

from jobs.ciphertext import ITEM, JOB, METADATA, STEER, TURN, unreadable
from jobs.errors import NewerFormat, Undecodable
from jobs.format import FORMAT, check_format
from jobs.record import Job, TurnSlice

if TYPE_CHECKING:
    from jobs.cipher import Cipher

Event = dict[str, Any]

# The index of the first appended entry, and the appended entries. The type is a plain tuple,
# because nearly every event of a response needs one, and creating a NamedTuple takes three times as
# long.
Appended = tuple[int, list[bytes]]


@dataclass(frozen=True, slots=True)
class Grown:
    """A notification without the appended entries, which were too large to include.

    The log now has `length` entries.
    """

    length: int


@dataclass(frozen=True, slots=True)
class Waits:
    """A notification that the response is queued again, for the reason `reason`.

    `number` is the job's number in its tenant's waiting list. If the job first waits for a retry,
    `delay_ms` is the length of this delay.
    """

    number: int
    delay_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class Deleted:
    """A notification that the response was deleted."""


TEXT_DELTA: Final = 1
STEER_FIELDS: Final = 3

# Maps each code to the event type, the encoded fields, and the constant fields, which are omitted
# from an encoded entry.
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
    10: ("response.custom_tool_call_input.delta", ("item_id", "output_index", "delta"), {}),
}
_LAST_CODE: Final = max(_POSITIONAL)
_CODES: Final = {kind: code for code, (kind, _, _) in _POSITIONAL.items()}
_TRAVELLING: Final = {
    code: (frozenset(fields) | frozenset(constant) | {"type"}, itemgetter(*fields), constant)
    for code, (_, fields, constant) in _POSITIONAL.items()
}


def encode_event(event: Event) -> bytes:
    """Encodes an event as a log entry. The event has a `type` but no `sequence_number`."""
    code = _CODES.get(event["type"])
    if code is not None:
        names, values_of, constant = _TRAVELLING[code]
        if event.keys() == names and constant.items() <= event.items():
            return _pack((code, *values_of(event)))
    return _pack([event["type"], {k: v for k, v in event.items() if k != "type"}])


def encode_text_delta(item_id: str, output_index: int, content_index: int, text: str) -> bytes:
    """Encodes a text delta without log probabilities. Returns the same bytes as `encode_event`."""
    return _pack([TEXT_DELTA, item_id, output_index, content_index, text])


def decode_event(entry: bytes) -> Event:
    """Decodes a log entry and returns its event.

    Raises: NewerFormat for a code that a newer format has added; Undecodable.
    """
    found = _unpack(entry)
    # Every entry is decoded at least once, and a `match` statement would take twice as long.
    if type(found) is list and found:
        code, *values = found
        if type(code) is int and (row := _POSITIONAL.get(code)) is not None:
            kind, fields, constant = row
            if len(values) != len(fields):
                raise Undecodable(
                    f"a log entry with code {code} has the wrong number of fields: {len(values)}"
                )
            return {"type": kind, **dict(zip(fields, values, strict=True)), **constant}
        if type(code) is str and len(values) == 1:
            [rest] = values
            if type(rest) is dict and "type" not in rest:
                return {"type": code, **rest}
        if type(code) is int and code > _LAST_CODE:
            raise NewerFormat
    raise Undecodable("the log entry has an unknown format")


def encode_job(job: Job) -> bytes:
    """Encodes a job as MessagePack that begins with the number of its format."""
    context = [] if job.turns else job.context
    fields = (job.id, job.owner, job.created_at, job.params, context, job.context_bytes, job.turns)
    return _pack([FORMAT, *fields])


def decode_job(data: bytes) -> Job:
    """Decodes a job. Ignores fields that a newer version has added.

    Raises: NewerFormat, Undecodable.
    """
    found = _unpack(data)
    check_format(found)
    match found:
        case [
            1,
            str(id_),
            str(owner),
            int(at),
            dict(params),
            list(context),
            int(size),
            [*turns],
            *_,
        ]:
            named = [TurnSlice(*turn[: len(TurnSlice._fields)]) for turn in turns]
            return Job(id_, owner, at, params, context, size, named)
        case _:
            raise Undecodable("the job has an unknown format")


def kept_job(job: Job, cipher: Cipher | None) -> bytes:
    """Encodes a job for Redis, and encrypts it unless `cipher` is None."""
    data = encode_job(job)
    return data if cipher is None else cipher.encrypted(job.id, 0, [data], JOB)[0]


def kept_fingerprints(fingerprint: str, cipher: Cipher | None) -> str:
    """Returns a request's fingerprint in the form that is stored in Redis.

    With a cipher, returns one keyed hash of the fingerprint for each encryption key.
    """
    return fingerprint if cipher is None else cipher.fingerprints(fingerprint)


def job_of(response_id: str, kept: bytes, cipher: Cipher | None) -> Job:
    """Decrypts and decodes a job from Redis. Raises: NotReadableHere, Undecodable."""
    if cipher is not None:
        [kept] = cipher.decrypted(response_id, 0, [kept], JOB)
    return decode_job(kept)


def kept_turn(response_id: str, items: list[dict[str, Any]], cipher: Cipher | None) -> bytes:
    """Encodes the items of a turn for Redis, and encrypts them unless `cipher` is None."""
    data = _pack(items)
    return data if cipher is None else cipher.encrypted(response_id, 0, [data], TURN)[0]


def turn_of(response_id: str, kept: bytes, cipher: Cipher | None) -> list[dict[str, Any]]:
    """Decrypts and decodes the items of a turn. Raises: NotReadableHere, Undecodable."""
    if cipher is not None:
        [kept] = cipher.decrypted(response_id, 0, [kept], TURN)
    items = _unpack(kept)
    check_format(items)
    if not isinstance(items, list):
        raise Undecodable("the turn has an unknown format")
    return items


def kept_items(id_: str, items: list[dict[str, Any]], cipher: Cipher | None) -> list[bytes]:
    """Encodes items of a conversation for Redis, and encrypts them unless `cipher` is None.

    The place of an item in the log is unknown before Redis appends it, so it is not authenticated.
    """
    packed = [_pack(item) for item in items]
    if cipher is None:
        return packed
    return [cipher.encrypted(id_, 0, [one], ITEM)[0] for one in packed]


def is_item(entry: bytes) -> bool:
    """Returns False for the empty entry of a deleted item, and for the entry of a deletion."""
    return not entry.startswith(b"-") and entry != b""


def item_of(id_: str, kept: bytes, cipher: Cipher | None) -> dict[str, Any]:
    """Decrypts and decodes an item of a conversation. Raises: NotReadableHere, Undecodable."""
    return _mapping(id_, kept, cipher, ITEM)


def kept_metadata(id_: str, metadata: dict[str, str], cipher: Cipher | None) -> bytes:
    """Encodes the metadata of a conversation, and encrypts it unless `cipher` is None."""
    data = _pack(metadata)
    return data if cipher is None else cipher.encrypted(id_, 0, [data], METADATA)[0]


def metadata_of(id_: str, kept: bytes, cipher: Cipher | None) -> dict[str, str]:
    """Decrypts and decodes metadata. Raises: NotReadableHere, Undecodable."""
    return _mapping(id_, kept, cipher, METADATA)


def _mapping(id_: str, kept: bytes, cipher: Cipher | None, kind: bytes) -> dict[str, Any]:
    if cipher is not None:
        [kept] = cipher.decrypted(id_, 0, [kept], kind)
    value = _unpack(kept)
    check_format(value)
    if not isinstance(value, dict):
        raise Undecodable("a value of the conversation has an unknown format")
    return value


def kept_steer(response_id: str, fields: list[Any], cipher: Cipher | None) -> bytes:
    """Encodes the fields of a steer for Redis, and encrypts them unless `cipher` is None."""
    data = _pack(fields)
    return data if cipher is None else cipher.encrypted(response_id, 0, [data], STEER)[0]


def steer_of(response_id: str, kept: bytes, cipher: Cipher | None) -> list[Any]:
    """Decrypts and decodes the fields of a steer. Raises: NotReadableHere, Undecodable."""
    if cipher is not None:
        [kept] = cipher.decrypted(response_id, 0, [kept], STEER)
    fields = _unpack(kept)
    check_format(fields)
    if not isinstance(fields, list) or len(fields) < STEER_FIELDS:
        raise Undecodable("the steer has an unknown format")
    return fields[:STEER_FIELDS]


def decode_notification(payload: bytes) -> Appended | Grown | Waits | Deleted:
    """Decodes a notification, which is a pub/sub message on the channel of a response.

    Raises: Undecodable.
    """
    # Lua packs bytes as strings, which are not UTF-8, so they have to be decoded as bytes. Each
    # call creates an Unpacker, because a reused one crashed after an error (CVE-2026-57585). All
    # exceptions are caught, because the C and the Python implementation of msgpack raise errors of
    # different classes.
    try:
        change = msgpack.unpackb(payload, raw=True, strict_map_key=False)
    except Exception as error:
        raise unreadable(payload, "MessagePack", error) from error
    # Notifications with entries are the most frequent, so they are checked first. A class pattern,
    # as in the `match` below, would take longer than all of these checks together.
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


# msgspec takes a third of the time of msgpack for the same bytes.
_pack: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder().decode


def _unpack(data: bytes) -> Any:
    try:
        return _decode(data)
    except Exception as error:  # of several classes, such as RecursionError and MemoryError
        raise unreadable(data, "MessagePack", error) from error
