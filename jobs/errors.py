"""The errors of the package `jobs`.

HoldlineError
├── UnknownResponse          no such response, or one of another owner: indistinguishable on purpose
├── TurnMissing              an earlier turn of a conversation was deleted, has expired or was lost
├── QueueFull                too many responses are queued; try again later
├── Limited                  a limit of the tenant is reached; `what` names the limit
├── NotReplicated            accepted, but acknowledged by fewer replicas than required
├── IdempotencyKeyReused     the idempotency key belongs to a request with another body
├── NotWritable              the log accepts no more entries from this writer
│   ├── Fenced               another attempt owns the response, or it has ended
│   ├── Gone                 the response was deleted, has expired or was lost by Redis
│   └── Diverged             the log does not have the length that its writer expects
├── RecordChanged            another process has changed the record since it was read; read it again
├── RecordStoreFull          the record store has no room for another record
├── Undecodable              bytes in Redis that this program cannot decode
│   └── EncryptionKeyMissing encrypted with a key that this process does not have
└── RedisTrouble
    ├── RedisAway            no connection, or no reply in time; worth repeating
    │   └── RedisNotReady    a temporary error reply; nothing was written
    ├── RedisFull            `maxmemory` is reached; nothing was written
    ├── RedisRefused         Redis replied with an error; repeating is useless
    └── RedisUnsuitable      a version or settings with which the promises cannot be kept
"""

from __future__ import annotations


class HoldlineError(Exception):
    """The base class of all errors of this package."""


class UnknownResponse(HoldlineError):
    """There is no response with this id that the owner may see."""

    def __init__(self, response_id: str) -> None:
        super().__init__("response not found")
        self.response_id = response_id


class TurnMissing(HoldlineError):
    """An earlier turn of a conversation was deleted, has expired or was lost by Redis."""

    def __init__(self, response_id: str) -> None:
        super().__init__(f"turn {response_id} is missing")
        self.response_id = response_id


class QueueFull(HoldlineError):
    """The queue has reached its limit of prompts or bytes; `counted` says which."""

    def __init__(self, waiting: int, limit: int, counted: str = "prompts") -> None:
        super().__init__(f"{waiting} {counted} are in the queue already; the limit is {limit}")
        self.waiting = waiting
        self.limit = limit
        self.counted = counted


class Limited(HoldlineError):
    """A tenant has reached a limit.

    `what` is the name of the limit, a field of `tenants.FIELDS`. `wait` is in seconds.
    """

    def __init__(self, what: str, limit: float, wait: float) -> None:
        super().__init__(f"the limit {what} of {limit:g} is reached")
        self.what = what
        self.limit = limit
        self.wait = wait


class NotReplicated(HoldlineError):
    """The response is queued, but fewer replicas than required have acknowledged it."""

    def __init__(self, response_id: str, replicas: int) -> None:
        super().__init__(f"too few replicas ({replicas}) have acknowledged {response_id}")
        self.response_id = response_id
        self.replicas = replicas


class IdempotencyKeyReused(HoldlineError):
    """The idempotency key was used for a request with another body."""

    def __init__(self, response_id: str) -> None:
        super().__init__("the idempotency key was used with a different body")
        self.response_id = response_id


class NotWritable(HoldlineError):
    """The log accepts no more entries from this writer, which must stop its model call."""

    def __init__(self, response_id: str) -> None:
        super().__init__(f"{response_id}: {type(self).__name__.lower()}")
        self.response_id = response_id


class Fenced(NotWritable):
    """Another attempt owns the response now, or it has ended."""


class Gone(NotWritable):
    """The response is no longer in Redis."""


class Diverged(NotWritable):
    """The log has `found` entries, where its writer expects `expected`."""

    def __init__(self, response_id: str, expected: int, found: int) -> None:
        super().__init__(response_id)
        self.expected = expected
        self.found = found


class RecordChanged(HoldlineError):
    """Another process has written this record since it was read."""

    def __init__(self, record_id: str) -> None:
        super().__init__(f"{record_id} was changed by another process; try again")
        self.record_id = record_id


class RecordStoreFull(HoldlineError):
    """The record store is full."""

    def __init__(self, records: int) -> None:
        super().__init__(f"there are {records} records already; remove some first")
        self.records = records


class Undecodable(HoldlineError):
    """Bytes in Redis cannot be decoded: no version that this program knows wrote them."""


class EncryptionKeyMissing(Undecodable):
    """Bytes are encrypted with an unknown key, or are `plain` where that is not allowed."""

    def __init__(self, key_id: str) -> None:
        super().__init__(f"HOLDLINE_ENCRYPTION_KEYS has no key {key_id}")
        self.key_id = key_id


class RedisTrouble(HoldlineError):
    """A command to Redis failed."""


class RedisAway(RedisTrouble):
    """No connection to Redis, or no reply in time."""


class RedisNotReady(RedisAway):
    """Redis replied with a temporary error, such as MISCONF; `code` is its first word."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"Redis is not ready: {message}")
        self.code = code


class RedisFull(RedisTrouble):
    """Redis has reached `maxmemory`; the failed script wrote nothing."""


class RedisRefused(RedisTrouble):
    """Redis replied with an error that repeating will not change."""


class RedisUnsuitable(RedisTrouble):
    """This Redis cannot keep the promises; the message says which setting to change."""
