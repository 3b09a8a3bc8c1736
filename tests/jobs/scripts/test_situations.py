"""Tests each script with its reply lost and with Redis out of memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace

import msgspec
import pytest

from jobs.audit import AuditLog
from jobs.conversation_feed import FeedStore
from jobs.conversations import ConversationStore
from jobs.deliveries import Deliveries, Delivery, Kind
from jobs.errors import RedisFull
from jobs.feedback import Feedback
from jobs.feedback_store import FeedbackStore
from jobs.log.codec import encode_event
from jobs.log.events import begins
from jobs.log.log import LogWriter, read
from jobs.overview import read_overview
from jobs.posts import Posts
from jobs.push_subscriptions import PushSubscriptions, Subscription
from jobs.queue import Queue
from jobs.record import Job, Status, TurnSlice
from jobs.record_store import RecordStore
from jobs.redis.connection import Redis
from jobs.redis.permissions import denied
from jobs.redis.pipe import Pipe
from jobs.running import running_jobs
from jobs.scripts import SCRIPTS, calls
from jobs.steers import Steer
from jobs.tenants import Tenants
from jobs.turn_store import TurnStore
from jobs.worker_registry import WorkerRecord, WorkerRegistry, WorkerState
from tests.jobs.dump import Dump, dump
from tests.jobs.factories import (
    NAMES,
    SETTINGS,
    a_job,
    end_entry,
    ending,
    inspect_now,
    opening,
    run_out,
)
from tests.jobs.proxy import Proxy
from tests.jobs.scripts.model import (
    HOUR,
)

HOOKED = replace(SETTINGS, webhooks=True, hook_wait_ms=HOUR)
PUSHED = replace(SETTINGS, push=True, push_wait_ms=0)

Do = Callable[[Pipe], Awaitable[object]]


@dataclass(frozen=True)
class Situation:
    """A state that `before` prepares and in which `do` runs a script."""

    script: str
    before: Do
    do: Do


def situations() -> list[Situation]:
    job: Job = a_job()
    running: Job = a_job("other")
    several = [a_job("held"), a_job("held")]

    pushed: Job = a_job("acme/anna")

    next_job: Job = a_job("other")

    async def add_steer(pipe: Pipe, key: str) -> None:
        steer = Steer("Stop.", [], 9000)
        log = Queue(pipe, HOOKED).steers
        await log.add(running.id, steer, key=key, fingerprint="f", max_bytes=9000)

    async def waiting(pipe: Pipe) -> None:
        queue = Queue(pipe, HOOKED)
        await queue.submit(running, opening(running))
        await queue.leases.claim(0, "mine", 1)
        await queue.submit(job, opening(job), begins=begins(job))

    async def marked(pipe: Pipe) -> None:
        await waiting(pipe)
        await writer(pipe).append([b"a"], b"c")

    async def hooked(pipe: Pipe) -> None:
        await waiting(pipe)
        await writer(pipe).finish(Status.COMPLETED, end, retention_ms=60_000)

    async def due(pipe: Pipe) -> None:
        await hooked(pipe)
        await pipe.call("ZADD", NAMES.hooks, 1, running.id)

    async def sending(pipe: Pipe) -> None:
        await due(pipe)
        await Deliveries(pipe).claim(0, "a-claim", 5, HOUR)

    async def pushing(pipe: Pipe) -> None:
        queue = Queue(pipe, PUSHED)
        await queue.submit(pushed, opening(pushed))
        [grant] = await queue.leases.claim(0, "a-worker", 1)
        finished = LogWriter(pipe, pushed.id, grant.claim, grant.length)
        await finished.finish(Status.COMPLETED, end, retention_ms=60_000)
        await pushes(pipe).claim(0, "a-claim", 5, HOUR)

    async def rated(pipe: Pipe) -> None:
        await waiting(pipe)
        await feedback(pipe).put(running.id, Feedback("down"))

    async def subscribed(pipe: Pipe) -> None:
        await subscriptions(pipe).put("acme/anna", web_push("old"), HOUR)

    async def addressed(pipe: Pipe) -> None:
        await pipe.call("SET", NAMES.subscription("a"), b"old", "PX", HOUR)

    async def with_time(pipe: Pipe) -> None:
        await waiting(pipe)
        await run_out(pipe, running.id)
        await inspect_now(pipe, job.id)

    async def seen(pipe: Pipe) -> None:
        await Queue(pipe, SETTINGS).submit_completed(
            new, [ending(new)], idempotency_key="key", fingerprint="body"
        )

    async def replying(pipe: Pipe) -> None:
        await waiting(pipe)
        await Posts(pipe, SETTINGS.job_ttl_ms).reply("public", "body", job.id, "open")

    async def cut(pipe: Pipe) -> None:
        await replying(pipe)
        await Posts(pipe, SETTINGS.job_ttl_ms).reply("public", "body", job.id, "cut")

    async def ended(pipe: Pipe) -> None:
        await hooked(pipe)
        await turns(pipe).keep(running.id, "other", [{"id": "item"}])

    async def named(pipe: Pipe) -> None:
        await ended(pipe)
        await turns(pipe).hold(job.id, turn)

    def turns(pipe: Pipe) -> TurnStore:
        return Queue(pipe, SETTINGS).turns

    def pushes(pipe: Pipe) -> Deliveries:
        return Deliveries(pipe, Kind.PUSH)

    def feedback(pipe: Pipe) -> FeedbackStore:
        return FeedbackStore(pipe, webhooks=True)

    def subscriptions(pipe: Pipe) -> PushSubscriptions:
        return PushSubscriptions(pipe, range(1))

    def web_push(name: str) -> Subscription:
        return Subscription(1_700_000_000_000, endpoint=f"https://push.example/{name}")

    def store(pipe: Pipe) -> ConversationStore:
        return ConversationStore(pipe, SETTINGS)

    async def audited(pipe: Pipe) -> None:
        await AuditLog(pipe, HOUR).append({"change": "a"})

    async def create(pipe: Pipe) -> None:
        await store(pipe).create(talk, "public", "public/@a", 1, {"a": "b"}, [{"id": "first"}])

    async def pending(pipe: Pipe) -> None:
        await create(pipe)
        await store(pipe).hold(talk, "public", job.id, [{"id": "asked"}])

    def feeds(pipe: Pipe) -> FeedStore:
        return FeedStore(pipe, SETTINGS)

    async def old(pipe: Pipe) -> None:
        """Makes a conversation to which an older version has appended an item."""
        await create(pipe)
        await pipe.call("RPUSH", NAMES.items(talk), msgspec.msgpack.encode({"id": "old"}))

    async def unsettled(pipe: Pipe) -> None:
        await pending(pipe)
        await pipe.call("ZADD", NAMES.unsettled, 0, talk)

    async def idle(pipe: Pipe) -> None:
        await waiting(pipe)
        await pipe.call("ZADD", NAMES.idle_workers, 0, "worker")
        await pipe.call("PEXPIRE", NAMES.idle_workers, 60_000)

    async def wake(pipe: Pipe) -> None:
        await pipe.run(calls.wake(queues_key=NAMES.queues, prefix=NAMES.prefix))

    async def held(pipe: Pipe) -> None:
        queue = Queue(pipe, replace(SETTINGS, tenant_running=1))
        for one, claim in zip(several, ("mine", "next"), strict=True):
            await queue.submit(one, opening(one))
            await queue.leases.claim(0, claim, 1)

    def writer(pipe: Pipe) -> LogWriter:
        return LogWriter(pipe, running.id, "mine", 2)

    head = [encode_event(event) for event in opening(running)]
    end = [end_entry(running)]
    turn = [TurnSlice(running.id, 0, 1)]
    new = a_job("new", store=False)
    talk = "conv_000" + "0" * 32
    return [
        Situation(
            "submit",
            waiting,
            lambda pipe: Queue(pipe, SETTINGS).submit(
                new, opening(new), begins=begins(new), idempotency_key="key", fingerprint="body"
            ),
        ),
        Situation(
            "submit_completed",
            waiting,
            lambda pipe: Queue(pipe, SETTINGS).submit_completed(
                new, [ending(new)], idempotency_key="key", fingerprint="body"
            ),
        ),
        Situation(
            "reply",
            replying,
            lambda pipe: Posts(pipe, SETTINGS.job_ttl_ms).reply("public", "body", job.id, "cut"),
        ),
        Situation(
            "attach",
            cut,
            lambda pipe: Posts(pipe, SETTINGS.job_ttl_ms).attach("public", "body", new.id),
        ),
        Situation("seen", seen, lambda pipe: Queue(pipe, SETTINGS).seen(new.id, 9000)),
        Situation("claim", waiting, lambda pipe: Queue(pipe, SETTINGS).leases.claim(0, "next", 5)),
        Situation("wake", idle, wake),
        Situation(
            "extend",
            waiting,
            lambda pipe: Queue(pipe, SETTINGS).leases.extend(0, [(running.id, "mine")]),
        ),
        Situation("append", waiting, lambda pipe: writer(pipe).append([b"a", b"b"], b"c")),
        Situation(
            "begin_again",
            marked,
            lambda pipe: Queue(pipe, SETTINGS).leases.begin_again(running.id, "mine", 2),
        ),
        Situation(
            "finish",
            waiting,
            lambda pipe: writer(pipe).finish(Status.COMPLETED, end, retention_ms=60_000, bury=True),
        ),
        Situation(
            "finish_steered",
            waiting,
            lambda pipe: writer(pipe).finish(
                Status.INCOMPLETE,
                end,
                retention_ms=60_000,
                steers=0,
                successor=Queue(pipe, HOOKED).successor(next_job, None),
            ),
        ),
        Situation("steer", waiting, lambda pipe: add_steer(pipe, "b")),
        Situation("read_steers", waiting, lambda pipe: Queue(pipe, HOOKED).steers.read(running.id)),
        Situation("compact", hooked, lambda pipe: writer(pipe).compact(head, end)),
        Situation(
            "retry",
            waiting,
            lambda pipe: Queue(pipe, SETTINGS).leases.retry(running.id, "mine", 9000, "x"),
        ),
        Situation(
            "give_back",
            waiting,
            lambda pipe: Queue(pipe, SETTINGS).leases.give_back(running.id, "mine", "x"),
        ),
        Situation(
            "cancel",
            waiting,
            lambda pipe: Queue(pipe, SETTINGS).cancel(job.id, 2, [ending(job, Status.CANCELLED)]),
        ),
        Situation(
            "rescue", with_time, lambda pipe: Queue(pipe, SETTINGS).leases.rescue(0, "rescuer")
        ),
        Situation("delete", waiting, lambda pipe: Queue(pipe, SETTINGS).delete(job.id)),
        Situation("keep_turn", hooked, lambda pipe: turns(pipe).keep(running.id, "other", [{}])),
        Situation("hold_turns", ended, lambda pipe: turns(pipe).hold(job.id, turn)),
        Situation("read_turns", ended, lambda pipe: turns(pipe).read(turn)),
        Situation("release_turns", named, lambda pipe: turns(pipe).release(job.id, turn)),
        Situation(
            "claim_deliveries", due, lambda pipe: Deliveries(pipe).claim(0, "a-claim", 5, HOUR)
        ),
        Situation(
            "settle_delivery",
            sending,
            lambda pipe: Deliveries(pipe).settle(Delivery(running.id, "", 0, 0, 0), "a-claim"),
        ),
        Situation(
            "spread_push",
            pushing,
            lambda pipe: pushes(pipe).spread(
                Delivery(pushed.id, "", 0, 0, 0), "a-claim", ["a", "b"]
            ),
        ),
        Situation(
            "rate", rated, lambda pipe: feedback(pipe).put(running.id, Feedback("up", "Good."))
        ),
        Situation(
            "put_subscription",
            subscribed,
            lambda pipe: subscriptions(pipe).put("acme/anna", web_push("new"), HOUR),
        ),
        Situation(
            "remove_subscription",
            addressed,
            lambda pipe: pipe.run(
                calls.remove_subscription(subscription_key=NAMES.subscription("a"), before=b"old")
            ),
        ),
        Situation(
            "set_tenant", held, lambda pipe: Tenants(pipe, range(1)).set("held", {"running": "5"})
        ),
        Situation(
            "put_record",
            waiting,
            lambda pipe: RecordStore(pipe, NAMES.api_keys).put("id", None, b"k"),
        ),
        Situation("orphans", waiting, lambda pipe: Queue(pipe, SETTINGS).orphans(0, [job.id], 9)),
        Situation("pause", waiting, lambda pipe: Queue(pipe, SETTINGS).pause("m", 60)),
        Situation("read", waiting, lambda pipe: read(pipe, job.id, 0)),
        Situation(
            "queue_positions",
            waiting,
            lambda pipe: Queue(pipe, SETTINGS).queue_positions(0, [("", "public")]),
        ),
        Situation("create_conversation", waiting, create),
        Situation("read_conversation", pending, lambda pipe: store(pipe).read(talk, stop=-1)),
        Situation(
            "list_conversation",
            pending,
            lambda pipe: store(pipe).page(talk, "public", after="first", order="asc", limit=9),
        ),
        Situation(
            "update_conversation",
            pending,
            lambda pipe: store(pipe).update(talk, "public", {"a": "c", "b": "d"}),
        ),
        Situation(
            "hold_conversation",
            pending,
            lambda pipe: store(pipe).hold(talk, "public", new.id, [{"id": "asked"}]),
        ),
        Situation(
            "append_conversation",
            pending,
            lambda pipe: store(pipe).append(
                talk, job.id, [{"id": "a"}, {"id": "b"}], status=Status.COMPLETED
            ),
        ),
        Situation("release_conversation", pending, lambda pipe: store(pipe).release(talk, job.id)),
        Situation(
            "delete_conversation_item",
            pending,
            lambda pipe: store(pipe).delete_item(talk, "public", "first"),
        ),
        Situation("read_feed", pending, lambda pipe: feeds(pipe).read(talk, 0)),
        Situation("read_branches", pending, lambda pipe: feeds(pipe).branches(talk)),
        Situation("complete_feed", old, lambda pipe: feeds(pipe).read(talk, 0)),
        Situation("mark_read", pending, lambda pipe: feeds(pipe).mark_read(talk, "public", 9)),
        Situation(
            "note_feedback", pending, lambda pipe: feeds(pipe).note_feedback(talk, job.id, 1)
        ),
        Situation("read_list_feed", pending, lambda pipe: feeds(pipe).read_list("acme/anna", 0)),
        Situation(
            "list_conversations",
            pending,
            lambda pipe: feeds(pipe).page("acme/anna", after="", order="desc", limit=9),
        ),
        Situation("delete_conversation", pending, lambda pipe: store(pipe).delete(talk, "public")),
        Situation("audit", audited, lambda pipe: AuditLog(pipe, HOUR).append({"change": "b"})),
        *registry_situations(),
        Situation("denied", waiting, lambda pipe: denied(pipe, ("get", "ping"))),
        Situation("claim_unsettled", unsettled, lambda pipe: store(pipe).claim_unsettled(0)),
    ]


def registry_situations() -> list[Situation]:
    """Returns the situations of the scripts that say which workers and jobs there are."""
    record = WorkerRecord("host", 1, "1.0", 5, 4, (), WorkerState.READY, "", 0, ())
    job = a_job()

    async def nothing(pipe: Pipe) -> None:
        del pipe

    async def registered(pipe: Pipe) -> None:
        await WorkerRegistry(pipe, HOUR).register("worker", record)

    async def one_job(pipe: Pipe) -> None:
        await Queue(pipe, SETTINGS).submit(job, opening(job))

    loads = calls.tenant_loads(
        tenants_key=NAMES.tenants,
        prefix=NAMES.prefix,
        tokens_per_day=0,
        money_per_day=0,
        tenants=["public"],
    )
    return [
        Situation("register_worker", nothing, registered),
        Situation(
            "unregister_worker",
            registered,
            lambda pipe: WorkerRegistry(pipe, HOUR).unregister("worker"),
        ),
        Situation("live_workers", registered, lambda pipe: WorkerRegistry(pipe, HOUR).page()),
        Situation("overview", one_job, lambda pipe: read_overview(pipe, SETTINGS)),
        Situation("running_jobs", one_job, lambda pipe: running_jobs(pipe, [0], 10)),
        Situation("tenant_loads", one_job, lambda pipe: pipe.run(loads)),
    ]


SITUATIONS = [pytest.param(each, id=each.script) for each in situations()]


def test_every_script_has_a_test_situation() -> None:
    assert sorted(SCRIPTS) == sorted(each.script for each in situations())


@pytest.fixture
async def proxy(redis_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(redis_url) as proxy:
        yield proxy


async def after(pipe: Pipe, situation: Situation) -> tuple[object, Dump]:
    """Returns the script's reply and the state of Redis after a run without faults."""
    await situation.before(pipe)
    reply = await situation.do(pipe)
    left = await dump(pipe)
    await pipe.call("FLUSHALL")
    return reply, left


@pytest.mark.parametrize("lost", [1, 3])
@pytest.mark.parametrize("situation", SITUATIONS)
async def test_a_script_repeated_after_a_lost_reply_has_the_effect_of_one_run(
    pipe: Pipe, proxy: Proxy, situation: Situation, lost: int
) -> None:
    _, expected = await after(pipe, situation)
    await situation.before(pipe)
    async with Pipe(Redis(proxy.url)) as through:
        await through.call("PING")
        for _ in range(lost):
            # A new connection first loads the scripts; the reply after that is dropped.
            proxy.drop_next_reply()
            await situation.do(through)
            assert proxy.dropped
            if situation.script in ("delete", "rescue"):
                break  # running these scripts again would find nothing more to do

    found = await dump(pipe)

    assert expected == found
    assert proxy.accepted > 1


# These scripts may write while memory is full, because they keep existing data or free memory.
MAY_WRITE = {
    "audit",
    "extend",
    "give_back",
    "delete",
    "claim_deliveries",
    "settle_delivery",
    "remove_subscription",
    "compact",
    "wake",
    "seen",
    "register_worker",
    "unregister_worker",
    "hold_turns",
    "release_turns",
    "release_conversation",
    "delete_conversation",
    "delete_conversation_item",
    "list_conversations",
}
READS = {
    "denied",
    "read",
    "read_steers",
    "queue_positions",
    "read_turns",
    "read_conversation",
    "list_conversation",
    "read_branches",
    "read_feed",
    "read_list_feed",
    "live_workers",
    "overview",
    "running_jobs",
    "tenant_loads",
}


@pytest.mark.parametrize("situation", SITUATIONS)
async def test_only_scripts_that_need_no_extra_memory_write_to_a_full_redis(
    pipe: Pipe, situation: Situation
) -> None:
    _, expected = await after(pipe, situation)
    await situation.before(pipe)
    untouched = await dump(pipe)
    await pipe.call("CONFIG", "SET", "maxmemory", "1")
    try:
        if situation.script in MAY_WRITE | READS:
            await situation.do(pipe)
            assert expected == await dump(pipe)
        else:
            with pytest.raises(RedisFull):
                await situation.do(pipe)
            assert untouched == await dump(pipe)
    finally:
        await pipe.call("CONFIG", "SET", "maxmemory", "0")

    # After memory is freed, the script works without any repair.
    await situation.do(pipe)
    assert expected == await dump(pipe)
