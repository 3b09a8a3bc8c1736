"""Builds and parses the ids of responses, output items, steers and conversations."""

from __future__ import annotations

import hashlib
import re
import secrets

from .errors import UnknownResponse

MAX_PARTITIONS = 4096
RESPONSE_ID = re.compile(r"resp_[0-9a-f]{35}", re.ASCII)
SUBSCRIPTION_ID = re.compile(r"push_[0-9a-f]{35}", re.ASCII)
_CONVERSATION = re.compile(r"conv_[0-9a-f]{35}", re.ASCII)
_ITEM = re.compile(r"[a-z]{1,8}_([0-9a-f]{35})[0-9a-f]{4,12}", re.ASCII)
# The id of an item that a worker wrote: the response, the claim, the attempt and the index.
_OUTPUT_ITEM = re.compile(
    r"[a-z]{1,8}_([0-9a-f]{35})[0-9a-f]{4}([0-9a-f]{2})[0-9a-f]{2,6}", re.ASCII
)


def new_response_id(partition: int) -> str:
    """Returns a new response id: `resp_`, the partition in 3 hex digits, and 128 random bits."""
    return f"resp_{partition:03x}{secrets.token_hex(16)}"


def pick_partition(partitions: range, owner: str, idempotency_key: str | None) -> int:
    """Returns the partition for a new response.

    Requests with the same owner and idempotency key get the same partition, because a script
    searches for a used idempotency key only in its own partition. Without an idempotency key, the
    partition is random.
    """
    if idempotency_key is None:
        return secrets.choice(partitions)
    number = int.from_bytes(digest(owner, idempotency_key)[:4], "big")
    return partitions[number % len(partitions)]


def new_conversation_id(partitions: range, account: str, owner: str, key: str | None) -> str:
    """Returns a new conversation id: `conv_`, the partition in 3 hex digits, and 32 more digits.

    All conversations of an account are in one partition, so one script can limit their bytes. An
    account "" has no limits, so its conversations are in random partitions. With an idempotency
    key, a repeated request of the same owner gets the same id.
    """
    by = (owner, f"conversation {key}") if key is not None else ("", None)
    partition = (
        partition_of_account(partitions, account)
        if account
        else pick_partition(partitions, "", by[1])
    )
    digits = secrets.token_hex(16) if key is None else digest(*by)[-16:].hex()
    return f"conv_{partition:03x}{digits}"


def partition_of_account(partitions: range, account: str) -> int:
    """Returns the partition of all conversations of an account."""
    return pick_partition(partitions, account, "conversations")


def item_id(prefix: str, response_id: str, attempt: int, index: int, claim: str = "") -> str:
    """Returns the id of an output item, which no item of another attempt has.

    The id contains the response id, so the id of an item is enough to find the item. It also
    contains digits of `claim`, because two attempts can have the same number: if Redis loses a
    claim, the next claim gets its number. With these digits, each log entry of an item shows which
    attempt wrote the entry.
    """
    return f"{prefix}_{response_id.removeprefix('resp_')}{claim[:4]}{attempt:02x}{index:02x}"


def steer_id(response_id: str, number: int) -> str:
    """Returns the id of the steer that has this number in its response."""
    return f"steer_{response_id.removeprefix('resp_')}{number:04x}"


def response_of(item: str) -> str:
    """Returns the id of the response that contains the item with this id.

    Raises: UnknownResponse for an id that `item_id` cannot have created.
    """
    match = _ITEM.fullmatch(item)
    if match is None:
        raise UnknownResponse(item)
    return f"resp_{match[1]}"


def attempt_of(item: str) -> tuple[str, int] | None:
    """Returns the response digits and the attempt of an output item, or None for another id."""
    match = _OUTPUT_ITEM.fullmatch(item)
    return (match[1], int(match[2], 16)) if match is not None else None


def is_conversation(id_: str) -> bool:
    """Returns True if an id has the form of a conversation id."""
    return _CONVERSATION.fullmatch(id_) is not None


def digest(owner: str, idempotency_key: str) -> bytes:
    """Returns the SHA-256 digest of an owner and an idempotency key."""
    # An HTTP header may contain bytes that are not UTF-8. They are decoded as lone surrogates,
    # which only `surrogatepass` can encode again.
    return hashlib.sha256(f"{owner}\0{idempotency_key}".encode("utf-8", "surrogatepass")).digest()
