"""Every error that `jobs` raises.

HoldlineError
├── UnknownResponse      no such response, or not yours: the same answer on purpose
├── QueueFull            too many responses wait; come back later
├── Limited              this tenant has as much as it may; `what` says of which
├── NotReplicated        accepted, but too few replicas have it to call it kept
├── KeyReused            the idempotency key belongs to a request with another body
├── NotWritable          the log takes nothing from this writer
│   ├── Fenced           another attempt owns the response, or it has ended
│   ├── Gone             the response was deleted, expired or lost by Redis
│   └── Diverged         the log's length is not what its only writer wrote
├── ShelfChanged         somebody else has written the record meanwhile: read it again
├── ShelfFull            there are as many records as there may be
├── Undecodable          bytes in Redis that no version of this program wrote
│   └── KeyMissing       encrypted with a key that this process does not have
└── RedisTrouble
    ├── RedisAway        no connection, or no reply in time; repeating is right
    ├── RedisFull        `maxmemory` is reached; nothing was written
    ├── RedisRefused     Redis answered with an error; repeating is useless
    └── RedisUnsuitable  version or settings on which the promises cannot be kept
"""

from __future__ import annotations


class HoldlineError(Exception):
    """The root of all errors of this package."""


class UnknownResponse(HoldlineError):
    """No response with this id can be seen by this owner."""

    def __init__(self, response_id: str) -> None:
        super().__init__("response not found")
        self.response_id = response_id


class QueueFull(HoldlineError):
    """The queue holds as many waiting responses as it may."""

    def __init__(self, waiting: int, limit: int) -> None:
        super().__init__(f"{waiting} responses wait already; the limit is {limit}")
        self.waiting = waiting
        self.limit = limit


class Limited(HoldlineError):
    """A tenant has as much as it may. `what` is a field of `tenants.FIELDS`; wait in seconds."""

    def __init__(self, what: str, limit: float, wait: float) -> None:
        super().__init__(f"{what}: the limit is {limit:g}")
        self.what = what
        self.limit = limit
        self.wait = wait


class NotReplicated(HoldlineError):
    """The response is queued, but fewer replicas than asked for say that they have it."""

    def __init__(self, response_id: str, replicas: int) -> None:
        super().__init__(f"{replicas} replicas have {response_id}")
        self.response_id = response_id
        self.replicas = replicas


class KeyReused(HoldlineError):
    """The idempotency key was used for a request with another body."""

    def __init__(self, response_id: str) -> None:
        super().__init__("idempotency key was used with another body")
        self.response_id = response_id


class NotWritable(HoldlineError):
    """The log takes nothing more from this writer, which must stop its model call."""

    def __init__(self, response_id: str) -> None:
        super().__init__(f"{response_id}: {type(self).__name__.lower()}")
        self.response_id = response_id


class Fenced(NotWritable):
    """Another attempt owns the response now, or it has ended."""


class Gone(NotWritable):
    """The response is no longer in Redis."""


class Diverged(NotWritable):
    """The log has `found` entries where its writer had written `expected`."""

    def __init__(self, response_id: str, expected: int, found: int) -> None:
        super().__init__(response_id)
        self.expected = expected
        self.found = found


class ShelfChanged(HoldlineError):
    """Somebody else has written this record since it was read."""

    def __init__(self, record_id: str) -> None:
        super().__init__(f"{record_id} was changed by somebody else just now: try again")
        self.record_id = record_id


class ShelfFull(HoldlineError):
    """The shelf holds as many records as it may."""

    def __init__(self, records: int) -> None:
        super().__init__(f"there are {records} records already: remove some")
        self.records = records


class Undecodable(HoldlineError):
    """Bytes in Redis that no version of this program wrote."""


class KeyMissing(Undecodable):
    """What was kept is encrypted with another key than ours, or is `plain` and should not be."""

    def __init__(self, key_id: str) -> None:
        super().__init__(f"HOLDLINE_ENCRYPTION_KEYS has no key {key_id}")
        self.key_id = key_id


class RedisTrouble(HoldlineError):
    """Redis could not do what was asked."""


class RedisAway(RedisTrouble):
    """No connection to Redis, or no reply in time."""


class RedisFull(RedisTrouble):
    """Redis has reached `maxmemory`; the script that met it wrote nothing."""


class RedisRefused(RedisTrouble):
    """Redis answered with an error that repeating will not change."""


class RedisUnsuitable(RedisTrouble):
    """This Redis cannot keep the promises; the message says which setting to change."""
