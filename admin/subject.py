"""Exports or deletes the data of one end user in Redis, or hashes the user's name."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

import click

from jobs.config import settings as env
from jobs.config import shared_config
from jobs.errors import (
    HoldlineError,
    TurnMissing,
    Undecodable,
    UnknownConversation,
    UnknownResponse,
)
from jobs.feedback import Feedback
from jobs.feedback_store import FeedbackStore
from jobs.log.codec import job_of
from jobs.log.log import read_all
from jobs.names import Partition, conversation_names_of, names_of, partition_of
from jobs.push_subscriptions import PushSubscriptions
from jobs.queue import Queue
from jobs.redis.pipe import Pipe
from jobs.redis.unexpected_reply import decoding
from jobs.redis.url import redis_from_url
from jobs.subject_hash import read_salt, subject_hash
from runtime import command_line
from server.api.frames import response_of

from . import cli
from .arguments import OWNER
from .audited import Audit
from .cli import Output

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from jobs.conversations import ConversationStore
    from jobs.push_subscriptions import Subscription
    from jobs.turn_store import TurnStore

_OWNER: Final = """\
`TENANT/` selects the data of a tenant's services, and `public` selects all data of a server without
authentication. Redis has no index of owners, so the command scans all keys in small steps, which
takes a few seconds for a hundred thousand keys.\
"""
HELP: Final = f"""\
Exports or deletes the data of one end user, or hashes the user's name.

{_OWNER}

examples:
  holdline subject export acme/anna > anna.jsonl
  holdline subject delete acme/anna
  holdline subject hash acme/anna              the name of the user in the request log\
"""
EXPORT_HELP: Final = f"""\
Prints the data of an end user as lines of JSON.

A response has a line with its input, earlier turns, output and feedback, a conversation a line with
its metadata and items, and a push subscription a line with its address. The export is recorded in
the audit log.

{_OWNER}

examples:
  holdline subject export acme/anna > anna.jsonl\
"""
DELETE_HELP: Final = f"""\
Deletes the data of an end user.

The data are every response in any state, with its idempotency key, feedback, webhooks and pushes,
every stored turn, every conversation and every push subscription. Unfinished responses are stopped.

{_OWNER}

examples:
  holdline subject delete acme/anna
  holdline subject delete public               all data of a server without authentication\
"""
HASH_HELP: Final = """\
Prints the hash of an end user in the request log and in traces.

examples:
  grep "$(holdline subject hash acme/anna)" server.log\
"""
AT_ONCE: Final = 500
# The kinds of Redis keys with an owner's data. A key consists of a partition's prefix, the kind
# and an id.
JOBS: Final = "job"
TURNS: Final = "turn"
CONVERSATIONS: Final = "conversation"
FEEDBACK: Final = "feedback"  # the webhook of a feedback, which may outlive its response


async def owned(pipe: Pipe, owner: str, kind: str = JOBS) -> AsyncIterator[tuple[str, str]]:
    """Yields the id and the state of each response of an owner.

    If `kind` is another kind of key, yields the id of each stored turn, conversation or webhook of
    the owner instead. The scan may miss what is created while it runs.
    """
    seen: set[str] = set()
    for node in await pipe.nodes():
        async for keys in _steps(node, kind):
            found = await asyncio.gather(
                *(pipe.call("HMGET", key, "owner", "status") for key in keys)
            )
            with decoding("the record of a response"):
                records = [
                    (_id_of(key), (status or b"").decode())
                    for key, (whose, status) in zip(keys, found, strict=True)
                    if whose == owner.encode()
                ]
            for response_id, state in records:
                # `seen` filters repeated keys, because SCAN may return a key twice.
                if response_id not in seen:
                    seen.add(response_id)
                    yield response_id, state


async def _steps(node: Pipe, kind: str) -> AsyncIterator[list[bytes]]:
    """Yields all keys of one kind, such as `JOBS`, on a node of Redis, in batches."""
    cursor = b"0"
    while True:
        pattern = f"holdline:{{*}}:{kind}:*"
        with decoding("the list of keys"):
            cursor, found = await node.call("SCAN", cursor, "MATCH", pattern, "COUNT", AT_ONCE)
            ours = [key for key in found if _is_ours(key, kind)]
        yield ours
        if cursor == b"0":
            return


def _id_of(key: bytes) -> str:
    return key.decode(errors="replace").rpartition(":")[2]


def _is_ours(key: bytes, kind: str) -> bool:
    names = conversation_names_of if kind == CONVERSATIONS else names_of
    try:
        prefix = names(_id_of(key)).prefix
    except (UnknownResponse, UnknownConversation):
        return False
    return f"{prefix}{kind}:{_id_of(key)}".encode() == key


async def export(pipe: Pipe, queue: Queue, owner: str) -> AsyncIterator[dict[str, Any]]:
    """Yields an object for each response, conversation and push subscription of an owner.

    Raises: HoldlineError after the last line if some of them could not be decoded.
    """
    missing = []
    for kind in (JOBS, CONVERSATIONS):
        async for id_, _ in owned(pipe, owner, kind):
            try:
                if kind == JOBS:
                    yield await _exported(pipe, queue.turns, owner, id_)
                else:
                    yield await _exported_conversation(queue.conversations, id_)
            except (UnknownResponse, UnknownConversation):
                continue  # it has expired since the scan found it
            except Undecodable as error:
                missing.append(f"{id_} ({error})")
    subscriptions = PushSubscriptions(pipe, queue.partitions)
    for id_ in await subscriptions.ids(owner):
        try:
            found = await subscriptions.get(owner, id_)
        except Undecodable as error:
            missing.append(f"{id_} ({error})")
        else:
            if found is not None:
                yield _exported_subscription(owner, id_, found)
    if missing:
        raise HoldlineError(f"these records could not be decoded: {', '.join(missing)}")


async def _exported_conversation(store: ConversationStore, id_: str) -> dict[str, Any]:
    found = await store.read(id_, stop=-1)
    return {
        "owner": found.owner,
        "conversation": {
            "id": found.id,
            "object": "conversation",
            "created_at": found.created_at,
            "metadata": found.metadata,
        },
        "items": [item for _, item in found.items],
    }


def _exported_subscription(owner: str, id_: str, found: Subscription) -> dict[str, Any]:
    return {
        "owner": owner,
        "push_subscription": {
            "id": id_,
            "object": "holdline.push_subscription",
            "created_at": found.created_ms // 1000,
            "endpoint": found.endpoint or None,
            "device": found.device or None,
        },
    }


async def _exported(pipe: Pipe, turns: TurnStore, owner: str, response_id: str) -> dict[str, Any]:
    view = await read_all(pipe, response_id, viewer=owner)
    record = await pipe.call("HGET", Partition(partition_of(response_id)).job(response_id), "job")
    if record is None:
        raise UnknownResponse(response_id)
    job = job_of(response_id, record, pipe.cipher)
    given = await FeedbackStore(pipe, webhooks=False).get(response_id)
    try:
        before = [*await turns.read(job.turns), *job.context]
    except TurnMissing:
        before = None  # an earlier turn was deleted, so the export omits the earlier turns
    return {
        "owner": job.owner,
        "before": before,
        "input": job.params["input"],
        "response": response_of(view),
        "feedback": None
        if given == Feedback()
        else {"rating": given.rating, "comment": given.comment},
    }


async def delete(pipe: Pipe, queue: Queue, owner: str) -> Output:
    """Deletes the data of an owner, and returns the numbers of deleted records."""
    deleted = stopped = conversations = 0
    async for response_id, status in owned(pipe, owner):
        if await queue.delete(response_id):
            deleted += 1
            stopped += status in ("queued", "running")
    # The webhook of a feedback may wait for its receiver after its response has expired.
    async for response_id, _ in owned(pipe, owner, FEEDBACK):
        await queue.delete(response_id)
    # All jobs that could read the owner's turns have been deleted, so the turns can be deleted too.
    async for response_id, _ in owned(pipe, owner, TURNS):
        await pipe.call("DEL", names_of(response_id).turn(response_id))
    async for conversation_id, _ in owned(pipe, owner, CONVERSATIONS):
        conversations += await _erased(pipe, queue.conversations, conversation_id)
    await _erase_list(pipe, queue, owner)
    subscriptions = await PushSubscriptions(pipe, queue.partitions).remove_all(owner)
    return Output(
        f"{deleted} responses were deleted; {stopped} of them were unfinished and were stopped; "
        f"{conversations} conversations and {subscriptions} push subscriptions were deleted",
        {
            "owner": owner,
            "deleted_responses": deleted,
            "stopped_responses": stopped,
            "deleted_conversations": conversations,
            "deleted_push_subscriptions": subscriptions,
        },
    )


async def _erased(pipe: Pipe, store: ConversationStore, id_: str) -> bool:
    """Deletes a conversation, and the items that its pending responses could still read."""
    deleted = await store.delete(id_, "")
    names = conversation_names_of(id_)
    for key in (
        names.conversation,
        names.items,
        names.positions,
        names.pending,
        names.removed,
        names.feed,
    ):
        await pipe.call("DEL", key(id_))
    return deleted


async def _erase_list(pipe: Pipe, queue: Queue, owner: str) -> None:
    """Deletes the list of an end user's conversations, and its feed."""
    names = queue.feeds.names_of(owner)
    for key in (names.conversation_list(owner), names.feed(owner)):
        await pipe.call("DEL", key)


@contextlib.asynccontextmanager
async def _open(environ: Mapping[str, str]) -> AsyncIterator[tuple[Pipe, Queue]]:
    env.check_names(environ)
    url, cipher = shared_config.redis_url(environ), shared_config.cipher(environ)
    settings = shared_config.shared_settings(environ)
    async with redis_from_url(url, cipher).pipe() as pipe:
        yield pipe, Queue(pipe, settings)


@click.group(cls=command_line.Group, help=HELP)
def subject() -> None:
    """The group of the commands for the data of an end user."""


@subject.command("export", help=EXPORT_HELP)
@click.argument("whose", metavar="TENANT/SUBJECT", type=OWNER)
@cli.prints
async def export_all(environ: Mapping[str, str], *, whose: str) -> AsyncIterator[Output]:
    """Exports the data of an end user."""
    async with _open(environ) as (pipe, queue):
        # An export changes nothing, but it shows a user's prompts and answers to the operator.
        change = Audit.from_environ(environ).change("subject export", f"end user {whose}")
        async with change as outcome:
            exported = 0
            async for found in export(pipe, queue, whose):
                exported += 1
                outcome.after = f"{exported} exported"
                yield Output(cli.as_json(found), found)


@subject.command("delete", help=DELETE_HELP)
@click.argument("whose", metavar="TENANT/SUBJECT", type=OWNER)
@cli.prints
async def delete_all(environ: Mapping[str, str], *, whose: str) -> AsyncIterator[Output]:
    """Deletes the data of an end user."""
    async with _open(environ) as (pipe, queue):
        change = Audit.from_environ(environ).change("subject delete", f"end user {whose}")
        async with change as outcome:
            deleted = await delete(pipe, queue, whose)
            outcome.after = deleted.text
    yield deleted


@subject.command("hash", help=HASH_HELP)
@click.argument("whose", metavar="TENANT/SUBJECT", type=OWNER)
@cli.prints
async def hash_name(environ: Mapping[str, str], *, whose: str) -> AsyncIterator[Output]:
    """Hashes the name of an end user, and neither shows nor changes any data."""
    async with _open(environ) as (pipe, _):
        hashed = subject_hash(await read_salt(pipe), whose)
    yield Output(hashed, {"owner": whose, "hash": hashed})
