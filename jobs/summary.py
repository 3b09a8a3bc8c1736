"""Seals and opens the summaries in compaction items, and applies them to a list of items.

A compaction item contains a summary of earlier items. Its `encrypted_content` is opaque to clients,
which can send it back in later requests even after the stored responses have expired:

    "hl1." | base64url of the sealed bytes
    sealed bytes:  0x01 | checksum, 16 bytes | MessagePack of `Summary`
                   with encryption: the `ciphertext` of these bytes

The checksum also covers the owner, and the encryption key is derived from the owner too. Therefore
an item that was altered, or that belongs to another owner, is rejected. Without encryption, clients
can read the summary, and could forge one. A forged summary has no advantage for a client, because
models receive a summary as a user message, and every client can send user messages.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import TYPE_CHECKING, Any, Final

import msgspec

from .ciphertext import MAGIC, MIN_BYTES, SUMMARY, key_id
from .errors import EncryptionKeyMissing, Undecodable, UnknownResponse
from .ids import response_of

if TYPE_CHECKING:
    from .cipher import Cipher

Item = dict[str, Any]

COMPACTION: Final = "compaction"
TRIGGER: Final = "compaction_trigger"
# The parameter of a job that `POST /v1/responses/compact` has created. No client can set it.
COMPACT: Final = "compact"
_PREFIX: Final = "hl1."
_VERSION: Final = b"\x01"
_CHECKSUM_BYTES: Final = 16
_INTRODUCTION: Final = (
    "The following summary replaces the earlier part of this conversation, which is no longer "
    "shown:\n\n"
)


class Summary(msgspec.Struct, frozen=True):
    """The summary of earlier items.

    If `replaces` is True, a model gets the summary instead of all items before it, except for
    leading system and developer messages. If it is False, a model gets the items before it too:
    they are the user messages that `POST /v1/responses/compact` has returned.

    If the summary was written in a conversation, `conversation` is its id, and the summary covers
    the first `entries` entries of the conversation's log. It does not cover entries that other
    devices have appended between these and the compaction item.
    """

    text: str
    replaces: bool
    conversation: str = ""
    entries: int = 0


_pack: Final = msgspec.msgpack.Encoder().encode
_unpack: Final = msgspec.msgpack.Decoder(Summary).decode


def is_own(item: Item) -> bool:
    """Returns True for a compaction item that Holdline created, False for one of a provider."""
    content = item.get("encrypted_content")
    return (
        item.get("type") == COMPACTION and isinstance(content, str) and content.startswith(_PREFIX)
    )


def only_compacts(params: dict[str, Any]) -> bool:
    """Returns True if a job asks only for a compacted conversation, and for no answer."""
    return bool(params.get(COMPACT) or trigger_of(params))


def trigger_of(params: dict[str, Any]) -> list[Item]:
    """Returns the trigger with which the input of a job ends, or an empty list."""
    asked = params.get("input")
    return (
        [one for one in asked[-1:] if one.get("type") == TRIGGER] if isinstance(asked, list) else []
    )


def sealed(summary: Summary, owner: str, cipher: Cipher | None) -> str:
    """Returns the `encrypted_content` of a compaction item for responses of this owner."""
    packed = _pack(summary)
    data = _VERSION + _checksum(owner, packed) + packed
    if cipher is not None:
        [data] = cipher.encrypted(owner, 0, [data], SUMMARY)
    return _encoded(data)


def opened(item: Item, owner: str, cipher: Cipher | None) -> Summary:
    """Returns the summary in a compaction item, for which `is_own` is True.

    Raises: EncryptionKeyMissing; Undecodable for an item that was altered or has another owner.
    """
    content: str = item["encrypted_content"]
    try:
        data = urlsafe_b64decode(content.removeprefix(_PREFIX).encode())
    except ValueError:
        raise Undecodable("the summary is not base64url") from None
    # The decoder ignores unknown characters, and all text after the padding.
    if _encoded(data) != content:
        raise Undecodable("the summary was altered")
    if cipher is not None:
        [data] = cipher.decrypted(owner, 0, [data], SUMMARY)
    elif data.startswith(MAGIC) and len(data) >= MIN_BYTES:
        raise EncryptionKeyMissing(key_id(data))
    head = len(_VERSION) + _CHECKSUM_BYTES
    packed = data[head:]
    if not hmac.compare_digest(data[:head], _VERSION + _checksum(owner, packed)):
        raise Undecodable("the summary was altered, or has another owner")
    try:
        return _unpack(packed)
    except msgspec.MsgspecError:
        raise Undecodable("the summary has an unknown format") from None


def replaced_before(items: list[Item], owner: str, cipher: Cipher | None) -> int:
    """Returns the index of the last item that replaces all items before it, or 0.

    Raises: EncryptionKeyMissing, Undecodable.
    """
    for index in range(len(items) - 1, -1, -1):
        if is_own(items[index]) and opened(items[index], owner, cipher).replaces:
            return index
    return 0


def known_first(
    entries: list[tuple[int, Item]], conversation: str, owner: str, cipher: Cipher | None
) -> list[tuple[int, Item]]:
    """Returns the entries of a conversation's log in the order in which a model gets them.

    An entry is a pair of an index and an item. Items that precede the last summary, but are not
    covered by it, are moved behind it, so that the summary does not replace them. Another summary
    among these items is not moved: the model gets the items that it covers instead.

    Raises: EncryptionKeyMissing, Undecodable.
    """
    last = replaced_before([item for _, item in entries], owner, cipher)
    if not last:
        return entries
    item = entries[last][1]
    summary, response = opened(item, owner, cipher), _response_of(item)
    if summary.conversation != conversation or not response:
        return entries  # a client has added the item, so the summary replaces all items before it
    known, unknown = list[tuple[int, Item]](), list[tuple[int, Item]]()
    for index, one in entries[:last]:
        is_known = index < summary.entries or _response_of(one) == response
        found = known if is_known or one["type"] == COMPACTION else unknown
        found.append((index, one))
    return [*known, entries[last], *unknown, *entries[last + 1 :]]


def _response_of(item: Item) -> str:
    """Returns the id of an item's response, or "" if a client has chosen the item's id."""
    try:
        return response_of(item["id"])
    except UnknownResponse:
        return ""


def shown(items: list[Item], owner: str, cipher: Cipher | None) -> list[Item]:
    """Returns the items that a model gets: each of Holdline's summaries becomes a user message.

    Compaction items of a provider stay unchanged. Triggers are left out, because they are requests
    and not a part of the conversation.

    Raises: EncryptionKeyMissing, Undecodable.
    """
    start = replaced_before(items, owner, cipher)
    found: list[Item] = leading_rules(items[:start])
    for item in items[start:]:
        if is_own(item):
            found.append(message(opened(item, owner, cipher).text))
        elif item.get("type") != TRIGGER:
            found.append(item)
    return found


def leading_rules(items: list[Item]) -> list[Item]:
    """Returns the system and developer messages at the beginning, which apply to all turns."""
    end = next(
        (n for n, one in enumerate(items) if one.get("role") not in ("system", "developer")),
        len(items),
    )
    return items[:end]


def message(text: str) -> Item:
    """Returns the user message that contains a summary for a model."""
    part = {"type": "input_text", "text": _INTRODUCTION + text}
    return {"type": "message", "role": "user", "content": [part]}


def _encoded(data: bytes) -> str:
    return _PREFIX + urlsafe_b64encode(data).decode()


def _checksum(owner: str, packed: bytes) -> bytes:
    return hashlib.sha256(owner.encode() + b"\0" + packed).digest()[:_CHECKSUM_BYTES]
