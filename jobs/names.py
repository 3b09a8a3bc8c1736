"""Every key and channel name, and the partition that an id carries.

All keys of one response and of its queue share the hash tag `{p}`, so that each script touches one
slot of a cluster. The partition is part of the response id: an id alone finds its keys.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass, field
from functools import cache

from .errors import UnknownResponse

MAX_PARTITIONS = 4096
# The standard's words for how urgent a request is, highest first.
_TIERS = {"priority": "p", "default": "d", "auto": "d", "flex": "f"}
_ID = re.compile(r"resp_[0-9a-f]{35}", re.ASCII)
_ITEM = re.compile(r"[a-z]{1,8}_([0-9a-f]{35})[0-9a-f]{4,12}", re.ASCII)


def new_response_id(partition: int) -> str:
    """A fresh id: `resp_`, three hex digits of partition, 128 random bits."""
    return f"resp_{partition:03x}{secrets.token_hex(16)}"


def partition_of(response_id: str) -> int:
    """The partition inside an id.

    Raises: UnknownResponse for anything that `new_response_id` cannot have made, so that no text
        from outside ever becomes part of a key.
    """
    return names_of(response_id).number


def pick_partition(partitions: int, owner: str, idempotency_key: str | None) -> int:
    """The partition for a new response.

    A key always picks the same one for its owner: only there can one script see that the key was
    used before. Without a key any partition will do.
    """
    if idempotency_key is None:
        return secrets.randbelow(partitions)
    return int.from_bytes(_digest(owner, idempotency_key)[:4], "big") % partitions


def queue_name_of(tier: str | None, model: str) -> str:
    """The name of the queue in which a job waits: its tier, and its model or "".

    Models are told apart only where a models file lists them: otherwise any word that a client
    sends would make a key. "" is the default tier without a model.
    """
    letter = _TIERS.get(tier or "default", "d")
    return f"{letter}:{model}" if model or letter != "d" else ""


def model_of(queue_name: str) -> str:
    """The model of a queue; "" where models are not told apart."""
    return queue_name[2:]


def tenant_of(owner: str) -> str:
    """The tenant whose share, limits and budget an owner uses; as `tenant_of` in the scripts."""
    return owner.partition("/")[0]


def item_id(prefix: str, response_id: str, attempt: int, index: int, claim: str = "") -> str:
    """The id of an output item: the same for the same attempt, never shared by two attempts.

    Where Redis loses a claim, the next one gets the same attempt number. So `claim` is part of the
    id, and a follower can tell from any entry of an item which of the two has said it. The response
    is part of it as well, so that an item is found by its id alone.
    """
    return f"{prefix}_{response_id.removeprefix('resp_')}{claim[:4]}{attempt:02x}{index:02x}"


def response_of(item: str) -> str:
    """The response that an item's id names.

    Raises: UnknownResponse for an id that `item_id` cannot have made.
    """
    match = _ITEM.fullmatch(item)
    if match is None:
        raise UnknownResponse(item)
    return f"resp_{match[1]}"


def _digest(owner: str, idempotency_key: str) -> bytes:
    # A header may hold bytes that are no UTF-8; they come as lone surrogates.
    return hashlib.sha256(f"{owner}\0{idempotency_key}".encode("utf-8", "surrogatepass")).digest()


@dataclass(frozen=True, slots=True)
class Partition:
    """The names inside one partition."""

    number: int
    prefix: str = field(init=False)
    """What every key of the partition starts with; scripts build the rest from it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "prefix", f"holdline:{{{self.number}}}:")

    def job(self, response_id: str) -> str:
        """Hash: the authority on the state of one job."""
        return f"{self.prefix}job:{response_id}"

    def log(self, response_id: str) -> str:
        """List: the events; an entry's index is its `sequence_number`."""
        return f"{self.prefix}log:{response_id}"

    def turn(self, response_id: str) -> str:
        """Hash: the items of a response, for the jobs that continue from it; see `TurnStore`."""
        return f"{self.prefix}turn:{response_id}"

    def notifications(self, response_id: str) -> str:
        """Channel: `(first index, frames)` of what was just appended."""
        return f"{self.prefix}notifications:{response_id}"

    def idempotency(self, owner: str, idempotency_key: str) -> str:
        """String: the response that this owner's key made."""
        return f"{self.prefix}key:{_digest(owner, idempotency_key).hex()}"

    def replies(self, owner: str, request: str) -> str:
        """Hash: the responses that this owner's POSTs of one body wait for; see `reply.lua`."""
        return f"{self.prefix}replies:{_digest(owner, request).hex()}"

    @property
    def ready(self) -> str:
        """Sorted set: the tenants with waiting jobs by their finish tags; the lowest is next.

        The key is of the queue ""; another queue's has `|` and its name appended.
        """
        return f"{self.prefix}ready"

    @property
    def idle(self) -> str:
        """Sorted set: idle tenants by their finish tags; the key is named as `ready`."""
        return f"{self.prefix}idle"

    @property
    def waiting_prefix(self) -> str:
        """Lists, one a tenant: the ids that wait in the queue "". Those of another queue are at
        `waiting|<queue>|<tenant>`.
        """
        return f"{self.prefix}waiting:"

    def tenant(self, tenant: str) -> str:
        """Hash: what is set for a tenant: its weight and its limits."""
        return f"{self.prefix}tenant:{tenant}"

    def running(self, tenant: str) -> str:
        """Sorted set: the running ids of a tenant by the end of their lease, Redis time in ms."""
        return f"{self.prefix}running:{tenant}"

    def held(self, tenant: str) -> str:
        """Hash: the queues in which a tenant is held back until one of its jobs ends."""
        return f"{self.prefix}held:{tenant}"

    @property
    def followed(self) -> str:
        """Sorted set: ids that are cancelled when nobody follows them, by when that is."""
        return f"{self.prefix}followed"

    def open_of(self, account: str) -> str:
        """Sorted set: the ids of an account that have not ended, by when they must have.

        An account is a tenant or one of its end users; see `_limits.lua`.
        """
        return f"{self.prefix}open:{account}"

    def pause(self, model: str) -> str:
        """Hash: till when nothing of a model begins, Redis time in ms, and what has begun since."""
        return f"{self.prefix}pause:{model}"

    def pace(self, model: str) -> str:
        """Hash: what is left of a provider's requests and tokens a minute."""
        return f"{self.prefix}pace:{model}"

    def rate(self, account: str) -> str:
        """Hash: the bucket of an account's requests, and when it was last looked at."""
        return f"{self.prefix}rate:{account}"

    def used(self, account: str, day: int) -> str:
        """Hash: tokens and money, in millionths, of an account on a day since 1970, UTC."""
        return f"{self.prefix}used:{day}:{account}"

    @property
    def queues(self) -> str:
        """List: the names of queues with waiting jobs, the next to be served first."""
        return f"{self.prefix}queues"

    @property
    def wake(self) -> str:
        """List: a few markers on which idle workers block. Losing one costs a second."""
        return f"{self.prefix}wake"

    @property
    def leases(self) -> str:
        """Sorted set: running ids by the end of their lease, Redis time in ms."""
        return f"{self.prefix}leases"

    @property
    def delayed(self) -> str:
        """Sorted set: ids that wait for a retry, by due time, Redis time in ms."""
        return f"{self.prefix}delayed"

    @property
    def sizes(self) -> str:
        """Hash: the bytes of the prompts that have not ended, by id, and their sums."""
        return f"{self.prefix}sizes"

    @property
    def open(self) -> str:
        """Sorted set: every id that has not ended, by the time of its next inspection."""
        return f"{self.prefix}open"

    @property
    def dead(self) -> str:
        """List, bounded: what no worker should touch again without a human."""
        return f"{self.prefix}dead"

    @property
    def numbers(self) -> str:
        """Hash: per owner, the first and last number of its waiting list, for queue positions."""
        return f"{self.prefix}numbers"

    @property
    def api_keys(self) -> str:
        """Hash, in partition 0 alone: the API keys of services; see `record_store`."""
        return f"{self.prefix}api_keys"

    @property
    def cipher(self) -> str:
        """String, in partition 0 alone: the id of the key that the last process to start writes
        with; missing where nothing was ever encrypted.
        """
        return f"{self.prefix}cipher"

    @property
    def cancels(self) -> str:
        """Channel: ids of running responses that are to be cancelled."""
        return f"{self.prefix}cancels"

    @property
    def epoch(self) -> str:
        """String: random; another value, or none, means that Redis lost what it held."""
        return f"{self.prefix}epoch"

    def claimed(self, claim: str) -> str:
        """String: what a claim handed out, so that a repeated claim hands out the same."""
        return f"{self.prefix}claimed:{claim}"

    @property
    def hooks(self) -> str:
        """Sorted set: ids whose webhook waits or is being sent, by due time, Redis time in ms."""
        return f"{self.prefix}hooks"

    def hook(self, response_id: str) -> str:
        """Hash: one webhook: how the response ended, and the attempts so far."""
        return f"{self.prefix}hook:{response_id}"

    def probe(self, process: str) -> str:
        """Channel: a process's own probes; a subscription that does not deliver them is broken."""
        return f"{self.prefix}probe:{process}"


def names_of(response_id: str) -> Partition:
    """The names of the partition that a response is in. Raises: as `partition_of`."""
    if _ID.fullmatch(response_id) is None:
        raise UnknownResponse(response_id)
    return _names(response_id[5:8])


@cache  # an id has room for `MAX_PARTITIONS` of them
def _names(digits: str) -> Partition:
    return Partition(int(digits, 16))
