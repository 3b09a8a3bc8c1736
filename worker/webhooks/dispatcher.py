"""Sends the webhooks that are due, each at least once.

Every worker looks. A webhook is claimed under a lease that is longer than an attempt can take, so
no two workers send the same one at once; if its worker dies in between, another one sends it again
under the same `webhook-id`, and the receiver can tell.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from typing import TYPE_CHECKING, Final, Self

import structlog

from jobs.errors import RedisTrouble
from runtime.logs import described

from .message import SCHEDULE, Again, Dead, Sent, Verdict, body, headers, judge

if TYPE_CHECKING:
    from jobs.hooks import Hook, Hooks

    from .client import WebhookClient
    from .message import Receiver

log = structlog.get_logger()

LOOK_SECONDS: Final = (0.3, 0.8)
MOST_AT_ONCE: Final = 20
LEASE_MS: Final = 60_000
STOP_SECONDS: Final = 3.0


class WebhookDispatcher:
    """Looks for what is due; use it as an async context manager."""

    def __init__(
        self,
        hooks: Hooks,
        post: WebhookClient,
        receiver: Receiver,
        partitions: int,
        *,
        lease_ms: int = LEASE_MS,
        schedule: tuple[float, ...] = SCHEDULE,
    ) -> None:
        self._hooks = hooks
        self._post = post
        self._receiver = receiver
        self._partitions = range(partitions)
        self._lease_ms = lease_ms
        self._schedule = schedule
        self._sending: set[asyncio.Task[None]] = set()
        self._owner: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._owner = asyncio.create_task(self._look_for_ever(), name="courier")
        return self

    async def __aexit__(self, *error: object) -> None:
        """Claims nothing more; what is under way may end, or is left to its lease."""
        del error
        if self._owner is not None:
            self._owner.cancel()
            await asyncio.wait([self._owner])
        if sending := set(self._sending):
            _, late = await asyncio.wait(sending, timeout=STOP_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _look_for_ever(self) -> None:
        while True:
            try:
                for number in self._partitions:
                    await self._look(number)
            except RedisTrouble:
                pass  # the worker says that Redis is away
            except Exception as error:  # noqa: BLE001 - the edge: the next look may fare better
                log.error("webhooks not looked at", error=described(error))
            await asyncio.sleep(random.uniform(*LOOK_SECONDS))  # noqa: S311 - jitter

    async def _look(self, partition: int) -> None:
        if (room := MOST_AT_ONCE - len(self._sending)) <= 0:
            return
        token = secrets.token_hex(8)
        for hook in await self._hooks.claim(partition, token, room, self._lease_ms):
            task = asyncio.create_task(self._deliver(hook, token), name="webhook")
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _deliver(self, hook: Hook, token: str) -> None:
        try:
            await self._settle(hook, token, await self._attempt(hook))
        except RedisTrouble as error:
            log.warning("webhook not settled", response=hook.response_id, why=type(error).__name__)
        except Exception as error:  # noqa: BLE001 - the edge of a job: its lease runs out
            log.error("webhook broken", response=hook.response_id, error=described(error))

    async def _attempt(self, hook: Hook) -> Verdict:
        if hook.tries > len(self._schedule) + 1:
            return Dead()  # its workers died while they sent it, again and again
        payload = body(hook.response_id, hook.status, hook.ended_ms)
        signed = headers(hook.response_id, hook.now_ms, payload, self._receiver.keys)
        receipt = await self._post.send(self._receiver.url, payload, signed)
        verdict = judge(
            receipt.status,
            tries=hook.tries,
            dice=random.random(),  # noqa: S311 - jitter
            retry_after=receipt.retry_after,
            schedule=self._schedule,
        )
        if isinstance(verdict, Sent):
            log.info("webhook sent", response=hook.response_id, tries=hook.tries)
        elif isinstance(verdict, Again):
            log.warning(
                "webhook failed",
                response=hook.response_id,
                status=receipt.status,
                why=receipt.why,
                tries=hook.tries,
                again_ms=verdict.after_ms,
            )
        return verdict

    async def _settle(self, hook: Hook, token: str, verdict: Verdict) -> None:
        match verdict:
            case Sent():
                await self._hooks.settle(hook.response_id, token)
            case Again(after_ms):
                await self._hooks.settle(hook.response_id, token, again_ms=after_ms)
            case Dead():
                log.error("webhook given up", response=hook.response_id, tries=hook.tries)
                await self._hooks.settle(hook.response_id, token, outcome="dead")
