"""The names of all Redis keys and channels, and the ids of responses and items.

All keys of one response and of its queue share the hash tag `{p}`, so that each script touches one
slot of a cluster. The partition is part of the response id, so an id is enough to find its keys.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass, field
from functools import cache

from .errors import UnknownResponse

MAX_PARTITIONS = 4096
# The standard's service tiers, highest first, and their letters in queue names.
_TIERS = {"priority": "p", "default": "d", "auto": "d", "flex": "f"}
_ID = re.compile(r"resp_[0-9a-f]{35}", re.ASCII)
_ITEM = re.compile(r"[a-z]{1,8}_([0-9a-f]{35})[0-9a-f]{4,12}", re.ASCII)


def new_response_id(partition: int) -> str:
    """Returns a new id: `resp_`, three hex digits of the partition, 128 random bits."""
    return f"resp_{partition:03x}{secrets.token_hex(16)}"


def partition_of(response_id: str) -> int:
    """Returns the partition in a response id.

    Raises: UnknownResponse for any text that `new_response_id` cannot have made, so that no text
        from a client ever becomes part of a key.
    """
    return names_of(response_id).number


def pick_partition(partitions: int, owner: str, idempotency_key: str | None) -> int:
    """Returns the partition for a new response.

    The same owner and idempotency key always give the same partition, because a script can find a
    used key only in its own partition. Without a key the partition is random.
    """
    if idempotency_key is None:
        return secrets.randbelow(partitions)
    return int.from_bytes(_digest(owner, idempotency_key)[:4], "big") % partitions


def queue_name_of(tier: str | None, model: str) -> str:
    """Returns the name of the queue for a job: its tier, and its model or "".

    Queues distinguish only models that a models file lists; otherwise a client could create a key
    with any model name. The name of the default tier without a model is "".
    """
    letter = _TIERS.get(tier or "default", "d")
    return f"{letter}:{model}" if model or letter != "d" else ""


def model_of(queue_name: str) -> str:
    """Returns the model of a queue; "" if the queue does not distinguish models."""
    return queue_name[2:]


def tenant_of(owner: str) -> str:
    """Returns the tenant whose share, limits and budget an owner uses.

    The scripts have the same function, `tenant_of`.
    """
    return owner.partition("/")[0]


def item_id(prefix: str, response_id: str, attempt: int, index: int, claim: str = "") -> str:
    """Returns the id of an output item, which is stable within an attempt and unique across them.

    If Redis loses a claim, the next claim gets the same attempt number. So `claim` is part of the
    id, and any entry of an item shows a follower which of the two attempts has written it. The
    response id is also part of it, so that an item can be found by its id alone.
    """
    return f"{prefix}_{response_id.removeprefix('resp_')}{claim[:4]}{attempt:02x}{index:02x}"


def response_of(item: str) -> str:
    """Returns the id of the response that contains an item.

    Raises: UnknownResponse for an id that `item_id` cannot have made.
    """
    match = _ITEM.fullmatch(item)
    if match is None:
        raise UnknownResponse(item)
    return f"resp_{match[1]}"


def _digest(owner: str, idempotency_key: str) -> bytes:
    # A header may contain bytes that are not UTF-8, which are decoded as lone surrogates.
    return hashlib.sha256(f"{owner}\0{idempotency_key}".encode("utf-8", "surrogatepass")).digest()


@dataclass(frozen=True, slots=True)
class Partition:
    """The names of the keys and channels in one partition."""

    number: int
    prefix: str = field(init=False)
    """The prefix of every key of the partition, from which scripts build further names."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "prefix", f"holdline:{{{self.number}}}:")

    def job(self, response_id: str) -> str:
        """Hash: the record and the authoritative state of one job."""
        return f"{self.prefix}job:{response_id}"

    def log(self, response_id: str) -> str:
        """List: the events; an entry's index is its `sequence_number`."""
        return f"{self.prefix}log:{response_id}"

    def turn(self, response_id: str) -> str:
        """Hash: the items of a response for the jobs that continue from it; see `TurnStore`."""
        return f"{self.prefix}turn:{response_id}"

    def notifications(self, response_id: str) -> str:
        """Channel: `(first index, entries)` of each append, and other changes of a response."""
        return f"{self.prefix}notifications:{response_id}"

    def idempotency(self, owner: str, idempotency_key: str) -> str:
        """String: the id of the response that an owner's idempotency key created."""
        return f"{self.prefix}key:{_digest(owner, idempotency_key).hex()}"

    def replies(self, owner: str, request: str) -> str:
        """Hash: the responses for which an owner's POSTs of one body wait; see `reply.lua`."""
        return f"{self.prefix}replies:{_digest(owner, request).hex()}"

    @property
    def ready(self) -> str:
        """Sorted set: the tenants with waiting jobs, by finish tag; the lowest tag is next.

        This is the key of the queue ""; for another queue, `|` and its name are appended.
        """
        return f"{self.prefix}ready"

    @property
    def idle(self) -> str:
        """Sorted set: the idle tenants, by finish tag; named like `ready`."""
        return f"{self.prefix}idle"

    @property
    def waiting_prefix(self) -> str:
        """Prefix of lists, one for each tenant: the ids that wait in the queue "".

        The lists of other queues are at `waiting|<queue>|<tenant>`.
        """
        return f"{self.prefix}waiting:"

    def tenant(self, tenant: str) -> str:
        """Hash: the settings of a tenant, which are its weight and its limits."""
        return f"{self.prefix}tenant:{tenant}"

    def running(self, tenant: str) -> str:
        """Sorted set: a tenant's running ids, by the end of their leases in ms of Redis time."""
        return f"{self.prefix}running:{tenant}"

    def held(self, tenant: str) -> str:
        """Hash: the queues in which a tenant is held back until one of its jobs ends."""
        return f"{self.prefix}held:{tenant}"

    @property
    def followed(self) -> str:
        """Sorted set: ids to cancel if nobody follows them, by the time of their cancellation."""
        return f"{self.prefix}followed"

    def open_of(self, account: str) -> str:
        """Sorted set: the unfinished ids of an account, by the latest time of their end.

        An account is a tenant or one of its end users; see `_limits.lua`.
        """
        return f"{self.prefix}open:{account}"

    def pause(self, model: str) -> str:
        """Hash: the end of a model's pause in ms of Redis time, and the jobs begun since then."""
        return f"{self.prefix}pause:{model}"

    def pace(self, model: str) -> str:
        """Hash: the requests and tokens left in the token buckets of a model's provider."""
        return f"{self.prefix}pace:{model}"

    def rate(self, account: str) -> str:
        """Hash: the requests left in an account's token bucket, and the time of its last update."""
        return f"{self.prefix}rate:{account}"

    def used(self, account: str, day: int) -> str:
        """Hash: the tokens, and the money in millionths, that an account used on a day.

        `day` is the number of days since 1970, in UTC.
        """
        return f"{self.prefix}used:{day}:{account}"

    @property
    def queues(self) -> str:
        """List: the names of the queues with waiting jobs, in the order of service."""
        return f"{self.prefix}queues"

    @property
    def wake(self) -> str:
        """List: a few markers for which idle workers block. A lost marker costs a second."""
        return f"{self.prefix}wake"

    @property
    def leases(self) -> str:
        """Sorted set: the running ids, by the end of their leases in ms of Redis time."""
        return f"{self.prefix}leases"

    @property
    def delayed(self) -> str:
        """Sorted set: the ids that wait for a retry, by due time in ms of Redis time."""
        return f"{self.prefix}delayed"

    @property
    def sizes(self) -> str:
        """Hash: the bytes of each unfinished prompt, by id, and their sums."""
        return f"{self.prefix}sizes"

    @property
    def open(self) -> str:
        """Sorted set: every unfinished id, by the time of its next inspection."""
        return f"{self.prefix}open"

    @property
    def dead(self) -> str:
        """Bounded list: the dead list, whose entries no worker touches without an operator."""
        return f"{self.prefix}dead"

    @property
    def numbers(self) -> str:
        """Hash: the last job number of each waiting list, for queue positions; and statistics."""
        return f"{self.prefix}numbers"

    @property
    def api_keys(self) -> str:
        """Hash, only in partition 0: the API keys of services; see `record_store`."""
        return f"{self.prefix}api_keys"

    @property
    def cipher(self) -> str:
        """String, only in partition 0: the id of the encryption key of the last started process.

        This Redis key is missing if encryption was never configured.
        """
        return f"{self.prefix}cipher"

    @property
    def cancels(self) -> str:
        """Channel: the ids of running responses to cancel."""
        return f"{self.prefix}cancels"

    @property
    def epoch(self) -> str:
        """String: a random value; if it is missing or has changed, Redis has lost its data."""
        return f"{self.prefix}epoch"

    def claimed(self, claim: str) -> str:
        """String: the ids that a claim handed out, so that a repeated claim returns the same."""
        return f"{self.prefix}claimed:{claim}"

    @property
    def hooks(self) -> str:
        """Sorted set: the ids with an unfinished webhook, by due time in ms of Redis time."""
        return f"{self.prefix}hooks"

    def hook(self, response_id: str) -> str:
        """Hash: one webhook, with the response's final status and the attempts so far."""
        return f"{self.prefix}hook:{response_id}"

    def probe(self, process: str) -> str:
        """Channel: the probes of a process; a connection that does not deliver them is broken."""
        return f"{self.prefix}probe:{process}"


def names_of(response_id: str) -> Partition:
    """Returns the names in the partition of a response. Raises: as `partition_of`."""
    if _ID.fullmatch(response_id) is None:
        raise UnknownResponse(response_id)
    return _names(response_id[5:8])


@cache  # bounded: three hex digits have `MAX_PARTITIONS` values
def _names(digits: str) -> Partition:
    return Partition(int(digits, 16))
