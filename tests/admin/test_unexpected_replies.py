"""Tests that each admin command reports unexpected data in Redis with one line, not a traceback."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import hiredis
import pytest

from jobs.ids import new_response_id
from jobs.names import names_of
from jobs.queue import Queue
from jobs.redis.pipe import Pipe
from tests import commands
from tests.jobs.factories import NAMES, SETTINGS, a_job, opening

COMMANDS: Final = (
    ("status", ()),
    ("status", (new_response_id(0),)),
    ("audit", ()),
    ("audit", ("--since", "1h")),
    ("dead", ("list",)),
    ("keys", ("list",)),
    ("tenants", ("show", "acme")),
    ("subject", ("hash", "acme/anna")),
    ("subject", ("delete", "acme/anna")),
)
REPLIES: Final = {
    "integer": b":7\r\n",
    "nil": b"$-1\r\n",
    "text": b"+OK\r\n",
    "not UTF-8": b"$2\r\n\xff\xfe\r\n",
    "empty array": b"*0\r\n",
    "array of an integer": b"*1\r\n:7\r\n",
    "array of integers": b"*2\r\n:7\r\n:7\r\n",
    "array of nil": b"*1\r\n$-1\r\n",
    "array of arrays": b"*1\r\n*1\r\n$2\r\n\xff\xfe\r\n",
}
HANDSHAKE: Final = (b"CLIENT", b"SELECT", b"SCRIPT", b"HELLO")


@contextlib.asynccontextmanager
async def answering(reply: bytes) -> AsyncIterator[str]:
    """Starts a server that sends this reply to each command, and yields its URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = hiredis.Reader()
        while data := await reader.read(65_536):
            parser.feed(data)
            while (command := parser.gets()) is not False:
                writer.write(b"+OK\r\n" if command[0].upper() in HANDSHAKE else reply)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"


async def errors_of(command: str, argv: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> str:
    """Returns what a failed command prints to standard error, or "" if it succeeds."""
    if not await asyncio.to_thread(commands.run, command, *argv):
        return ""
    [line] = capsys.readouterr().err.splitlines()
    assert re.match(rf"holdline {command}( [a-z]+)?: ", line)
    return line


@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES)
@pytest.mark.parametrize(
    ("command", "argv"), COMMANDS, ids=[f"{name} {' '.join(argv)[:8]}" for name, argv in COMMANDS]
)
async def test_an_unexpected_reply_is_one_line(
    command: str,
    argv: tuple[str, ...],
    reply: bytes,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HOLDLINE_API_KEYS", "redis")
    async with answering(reply) as url:
        monkeypatch.setenv("REDIS_URL", url)
        line = await errors_of(command, argv, capsys)
    if command in ("status", "tenants") and reply == REPLIES["integer"]:
        assert "unexpected data in Redis" in line


@pytest.mark.parametrize(
    ("field", "value"),
    [("submitted", "never"), ("attempt", "1.5"), ("steps", "claimed"), ("steps", "claimed x")],
)
async def test_a_damaged_record_of_a_response_is_one_line(
    field: str,
    value: str,
    pipe: Pipe,
    redis_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.chdir(tmp_path)
    job = a_job()
    await Queue(pipe, SETTINGS).submit(job, opening(job))
    await pipe.call("HSET", names_of(job.id).job(job.id), field, value)
    line = await errors_of("status", (job.id,), capsys)
    assert "cannot decode the record of a response" in line


async def test_a_key_of_another_type_is_one_line(
    pipe: Pipe, redis_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REDIS_URL", redis_url)
    for key, command in ((NAMES.audit, "audit"), (NAMES.workers, "status")):
        await pipe.call("SET", key, "7", "PX", 60_000)
        assert "WRONGTYPE" in await errors_of(command, (), capsys)
        await pipe.call("DEL", key)
