"""Stores the push subscriptions of end users, which are the addresses of their devices.

A subscription is a Redis string of its own, and has one owner. A browser that two users share has
one subscription, so the user who subscribes last takes it over. The sorted set of an owner only
lists ids: a listed subscription that has another owner, or does not exist, is not the owner's.
"""

from __future__ import annotations

import contextlib
import hashlib
from typing import TYPE_CHECKING, Final

import msgspec

from .ciphertext import SUBSCRIPTION, unreadable
from .errors import RedisRefused, SubscriptionsFull, Undecodable
from .ids import SUBSCRIPTION_ID, pick_partition
from .names import Partition
from .redis.unexpected_reply import decoding
from .scripts import calls

if TYPE_CHECKING:
    from .redis.pipe import Pipe

MAX_SUBSCRIPTIONS: Final = 20  # of one owner
# A subscription expires this long after the device has registered it again or was sent a push.
MAX_TTL_MS: Final = 60 * 24 * 3600 * 1000


class Subscription(msgspec.Struct, frozen=True, omit_defaults=True):
    """A subscription. Times are Unix times in milliseconds; `expires_ms` 0 means no fixed expiry.

    A subscription of a browser has an `endpoint` at its push service, the two keys `p256dh` and
    `auth` that encrypt its messages, and `server_key`, the public key that the browser accepts as
    the sender's. A subscription of another device has only an opaque `device`.
    """

    created_ms: int
    expires_ms: int = 0
    endpoint: str = ""
    p256dh: bytes = b""
    auth: bytes = b""
    server_key: bytes = b""
    device: str = ""

    @property
    def address(self) -> str:
        """The address that identifies the subscription."""
        return f"device {self.device}" if self.device else f"web {self.endpoint}"


class _Stored(msgspec.Struct, frozen=True):
    owner: str
    data: bytes


_decode_stored = msgspec.msgpack.Decoder(_Stored).decode
_decode = msgspec.msgpack.Decoder(Subscription).decode
_encode = msgspec.msgpack.Encoder().encode


def subscription_id(partitions: range, subscription: Subscription) -> str:
    """Returns the id of a subscription, which depends only on its address."""
    partition = pick_partition(partitions, "", subscription.address)
    digits = hashlib.sha256(subscription.address.encode()).hexdigest()[:32]
    return f"push_{partition:03x}{digits}"


class PushSubscriptions:
    """The subscriptions of all owners. All methods raise RedisTrouble."""

    def __init__(self, pipe: Pipe, partitions: range) -> None:
        self._pipe = pipe
        self._partitions = partitions

    async def put(self, owner: str, subscription: Subscription, ttl_ms: int) -> str:
        """Stores or renews a subscription for `ttl_ms`, at most `MAX_TTL_MS`, and returns its id.

        Raises: SubscriptionsFull.
        """
        id_, ttl_ms = subscription_id(self._partitions, subscription), min(ttl_ms, MAX_TTL_MS)
        await self._list(owner, id_, ttl_ms)
        stored = _encode(_Stored(owner, self._sealed(id_, subscription)))
        await self._pipe.call("SET", _key(id_), stored, "PX", ttl_ms)
        return id_

    async def renew(self, owner: str, id_: str, ttl_ms: int) -> None:
        """Keeps a subscription, which was used, for another `ttl_ms`, at most `MAX_TTL_MS`.

        Raises: SubscriptionsFull if the owner has made too many others since it expired.
        """
        ttl_ms = min(ttl_ms, MAX_TTL_MS)
        if await self._read(owner, id_) is not None:
            await self._list(owner, id_, ttl_ms)
            await self._pipe.call("PEXPIRE", _key(id_), ttl_ms)

    async def _list(self, owner: str, id_: str, ttl_ms: int) -> None:
        reply = await self._pipe.run(
            calls.put_subscription(
                subscriptions_key=self._list_key(owner),
                id=id_,
                ttl_ms=ttl_ms,
                max_ttl_ms=MAX_TTL_MS,
                most=MAX_SUBSCRIPTIONS,
            )
        )
        match reply:
            case [b"ok"]:
                return
            case [b"full"]:
                raise SubscriptionsFull(MAX_SUBSCRIPTIONS)
            case _:
                raise RedisRefused("the `put_subscription` script returned an unexpected reply")

    async def ids(self, owner: str) -> list[str]:
        """Returns the ids that are listed for an owner.

        A listed subscription may have expired, or may have another owner now.
        """
        with decoding("the list of push subscriptions"):
            found = await self._pipe.call("ZRANGE", self._list_key(owner), 0, -1)
            return [id_.decode() for id_ in found]

    async def get(self, owner: str, id_: str) -> Subscription | None:
        """Returns a subscription of an owner, or None if the owner has no such subscription.

        Raises: EncryptionKeyMissing, Undecodable.
        """
        stored = await self._read(owner, id_)
        return None if stored is None else self._opened(id_, stored)

    async def all(self, owner: str) -> dict[str, Subscription]:
        """Returns the subscriptions of an owner by their id.

        Subscriptions that this process cannot decrypt are left out, because no push can use them.
        """
        found = {id_: await self._readable(owner, id_) for id_ in await self.ids(owner)}
        return {id_: each for id_, each in found.items() if each is not None}

    async def _readable(self, owner: str, id_: str) -> Subscription | None:
        with contextlib.suppress(Undecodable):
            return await self.get(owner, id_)
        return None

    async def remove(self, owner: str, id_: str) -> bool:
        """Removes a subscription. Returns False if the owner had no such subscription."""
        stored = await self._read(owner, id_)
        if stored is None:
            return False
        call = calls.remove_subscription(subscription_key=_key(id_), before=stored)
        removed = bool(await self._pipe.run(call))
        await self._pipe.call("ZREM", self._list_key(owner), id_)
        return removed

    async def remove_all(self, owner: str) -> int:
        """Removes all subscriptions of an owner, and returns their number."""
        removed = [await self.remove(owner, id_) for id_ in await self.ids(owner)]
        await self._pipe.call("DEL", self._list_key(owner))
        return sum(removed)

    async def _read(self, owner: str, id_: str) -> bytes | None:
        """Returns the stored bytes of a subscription if the owner has it."""
        if SUBSCRIPTION_ID.fullmatch(id_) is None:
            return None
        found: bytes | None = await self._pipe.call("GET", _key(id_))
        if found is None:
            return None
        with decoding("a push subscription"):
            return found if _decode_stored(found).owner == owner else None

    def _sealed(self, id_: str, subscription: Subscription) -> bytes:
        data = _encode(subscription)
        cipher = self._pipe.cipher
        return data if cipher is None else cipher.encrypted(id_, 0, [data], SUBSCRIPTION)[0]

    def _opened(self, id_: str, stored: bytes) -> Subscription:
        data = _decode_stored(stored).data
        cipher = self._pipe.cipher
        if cipher is not None:
            [data] = cipher.decrypted(id_, 0, [data], SUBSCRIPTION)
        try:
            return _decode(data)
        except msgspec.DecodeError as error:
            raise unreadable(data, "a push subscription", error) from None

    def _list_key(self, owner: str) -> str:
        return Partition(pick_partition(self._partitions, owner, "push")).subscriptions(owner)


def _key(id_: str) -> str:
    return Partition(int(id_[5:8], 16)).subscription(id_)
