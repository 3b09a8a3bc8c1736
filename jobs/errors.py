"""Defines the exceptions that the package `jobs` raises.

HoldlineError
├── UnknownResponse          the response does not exist, or the caller may not see it
├── TurnMissing              an earlier turn of a conversation was deleted, has expired or was lost
├── UnknownConversation      the conversation does not exist, or the caller may not see it
├── ConversationBusy         too many responses of the conversation are unfinished
├── ConversationFull         a limit of items or bytes of conversations is reached
├── SteersTaken              another request has taken the steers of the previous response
├── QueueFull                too many responses are queued; the client may try again later
├── Limited                  a limit of the tenant is reached; `what` names the limit
├── NotReplicated            the response is queued, but too few replicas have acknowledged it
├── IdempotencyKeyReused     the idempotency key belongs to a request with another body
├── NotWritable              the log accepts no more entries from this writer
│   ├── Fenced               another attempt owns the response, or the response has ended
│   ├── Gone                 the response was deleted, has expired or was lost by Redis
│   └── Diverged             the log does not have the length that its writer expects
├── RecordChanged            another process has changed the record; read it again
├── RecordStoreFull          the record store has no room for another record
├── Undecodable              this program cannot decode bytes that it read from Redis
│   └── NotReadableHere      this program cannot decode the bytes, but another process may
│       ├── EncryptionKeyMissing  the bytes are encrypted with a key that this process lacks
│       └── NewerFormat           a newer version of Holdline has written the bytes
└── RedisTrouble             a command to Redis failed
    ├── RedisAway            Redis is not connected or did not reply in time; retry
    │   └── RedisNotReady    Redis sent a temporary error reply and wrote nothing; retry
    ├── RedisFull            Redis has reached `maxmemory` and wrote nothing
    ├── RedisRefused         Redis replied with an error that a retry will not change
    └── RedisUnsuitable      Redis has a version or settings that Holdline cannot use
"""

from __future__ import annotations

from typing import ClassVar


class HoldlineError(Exception):
    """The base class of all errors of this package."""


class UnknownResponse(HoldlineError):
    """The response does not exist, or belongs to an owner whose responses the caller may not see.

    The error is the same in both cases, so it does not reveal that the response exists.
    """

    def __init__(self, response_id: str) -> None:
        super().__init__("response not found")
        self.response_id = response_id


class TurnMissing(HoldlineError):
    """An earlier turn of a conversation was deleted, has expired or was lost by Redis."""

    def __init__(self, response_id: str) -> None:
        super().__init__(f"the earlier response {response_id} is missing")
        self.response_id = response_id


class UnknownConversation(HoldlineError):
    """The conversation does not exist, or belongs to an owner whose data the caller may not see."""

    def __init__(self, conversation_id: str) -> None:
        super().__init__("conversation not found")
        self.conversation_id = conversation_id


class ConversationBusy(HoldlineError):
    """The conversation has `limit` unfinished responses, which is the maximum."""

    def __init__(self, conversation_id: str, limit: int) -> None:
        super().__init__(f"{conversation_id} has {limit} unfinished responses")
        self.conversation_id = conversation_id
        self.limit = limit


class ConversationFull(HoldlineError):
    """A limit is reached, so nothing was added to the conversation.

    `what` is "bytes" or "items" for a limit of the conversation, and "account_bytes" for the limit
    of all conversations of one end user.
    """

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(f"the limit for {what} is reached: {limit}")
        self.what = what
        self.limit = limit


class SubscriptionsFull(HoldlineError):
    """The end user has `limit` push subscriptions, which is the maximum."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the end user has {limit} push subscriptions")
        self.limit = limit


class QueueFull(HoldlineError):
    """The queue has reached its limit of prompts or of bytes. `counted` names the limit's unit."""

    def __init__(self, waiting: int, limit: int, counted: str = "prompts") -> None:
        super().__init__(
            f"the queue is full: {waiting} {counted} are waiting, and the limit is {limit}"
        )
        self.waiting = waiting
        self.limit = limit
        self.counted = counted


class SteersTaken(HoldlineError):
    """Another request has just taken the pending steers of the previous response."""


class Limited(HoldlineError):
    """A tenant has reached a limit.

    `what` is the limit's name in `tenants.FIELDS`. `wait` is the number of seconds after which the
    client may try again.
    """

    def __init__(self, what: str, limit: float, wait: float) -> None:
        super().__init__(f"the limit for {what} is reached: {limit:g}")
        self.what = what
        self.limit = limit
        self.wait = wait


class NotReplicated(HoldlineError):
    """The response is queued, but fewer replicas than required have acknowledged it."""

    def __init__(self, response_id: str, replicas: int) -> None:
        super().__init__(f"too few Redis replicas have acknowledged {response_id}: {replicas}")
        self.response_id = response_id
        self.replicas = replicas


class IdempotencyKeyReused(HoldlineError):
    """The idempotency key was used for a request with another body."""

    def __init__(self, response_id: str) -> None:
        super().__init__("the idempotency key was used with a different request body")
        self.response_id = response_id


class NotWritable(HoldlineError):
    """The log accepts no more entries from this writer. The writer must stop its model call."""

    _why: ClassVar[str] = "the log accepts no more entries from this writer"

    def __init__(self, response_id: str) -> None:
        super().__init__(f"{response_id}: {self._why}")
        self.response_id = response_id


class Fenced(NotWritable):
    """Another attempt owns the response now, or the response has ended."""

    _why = "another attempt owns the response, or it has ended"


class Gone(NotWritable):
    """The response is no longer in Redis."""

    _why = "the response is no longer in Redis"


class Diverged(NotWritable):
    """The log has `found` entries, but its writer expected `expected` entries."""

    _why = "the log has another number of entries than its writer expected"

    def __init__(self, response_id: str, expected: int, found: int) -> None:
        super().__init__(response_id)
        self.expected = expected
        self.found = found


class RecordChanged(HoldlineError):
    """Another process has changed the record after this process read it."""

    def __init__(self, record_id: str) -> None:
        super().__init__(f"{record_id} was changed by another process; try again")
        self.record_id = record_id


class RecordStoreFull(HoldlineError):
    """The record store contains the maximum number of records."""

    def __init__(self, records: int) -> None:
        super().__init__(f"the limit of {records} records is reached; remove some first")
        self.records = records


class Undecodable(HoldlineError):
    """Bytes from Redis cannot be decoded. They do not have a format that this program supports."""


class NotReadableHere(Undecodable):
    """This process cannot decode the bytes, but they are intact, and another process may."""


class NewerFormat(NotReadableHere):
    """A newer version of Holdline has written the bytes (see `jobs.format`)."""

    def __init__(self) -> None:
        super().__init__("a newer version of Holdline has written this data")


class EncryptionKeyMissing(NotReadableHere):
    """This process does not have the encryption key of the bytes that it read.

    The key id `plain` means that the bytes are not encrypted, but this process requires encryption.
    """

    def __init__(self, key_id: str) -> None:
        super().__init__(f"HOLDLINE_ENCRYPTION_KEYS has no key {key_id}")
        self.key_id = key_id


class RedisTrouble(HoldlineError):
    """A command to Redis failed."""


class RedisAway(RedisTrouble):
    """There is no connection to Redis, or Redis did not reply in time."""


class RedisNotReady(RedisAway):
    """Redis replied with a temporary error, such as MISCONF. `code` is the reply's first word."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"Redis is not ready: {message}")
        self.code = code


class RedisFull(RedisTrouble):
    """Redis has reached `maxmemory`. The command or script that failed wrote nothing."""


class RedisRefused(RedisTrouble):
    """Redis replied with an error that a retry will not change."""


class RedisUnsuitable(RedisTrouble):
    """Holdline cannot use this Redis. The message says which setting or version to change."""
