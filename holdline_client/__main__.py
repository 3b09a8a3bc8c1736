"""The command `holdline-ask`, which sends a prompt and shows the answer as it is generated."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from .arguments import DEFAULT_URL, USAGE, parser
from .client import connect
from .errors import ChecksumMismatch, Closed, Error, Failed, OutcomeUnknown
from .events import Connection
from .terminal import Terminal

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from .answer import Answer
    from .arguments import Parser
    from .client import Client

NAME: Final = "holdline-ask"
# A user watches the command, so a lost connection must be detected sooner than with the server's
# interval of pings.
PING_SECONDS: Final = 8.0
MAX_PROMPT_CHARACTERS: Final = 64 * 1024 * 1024

COMPLETED, FAILED = 0, 1
INCOMPLETE, CANCELLED, UNREACHABLE, CHECKSUM_MISMATCH = range(USAGE + 1, USAGE + 5)
INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141
_ENDS: Final = {"completed": COMPLETED, "incomplete": INCOMPLETE, "cancelled": CANCELLED}


def _prompt(parser: Parser, arguments: Namespace) -> str:
    if arguments.id is not None:
        if arguments.prompt is not None:
            parser.error("use either a prompt or --id, not both")
        return ""
    if arguments.prompt is None:
        parser.error("a prompt, - for standard input, or --id is required")
    from_stdin = arguments.prompt == "-"
    text = sys.stdin.read(MAX_PROMPT_CHARACTERS + 1) if from_stdin else str(arguments.prompt)
    if not text.strip():
        parser.error("the prompt is empty")
    if len(text) > MAX_PROMPT_CHARACTERS:
        parser.error(f"the prompt has more than {MAX_PROMPT_CHARACTERS} characters")
    return text


def _begin(client: Client, arguments: Namespace, prompt: str) -> Answer:
    if arguments.id is not None:
        return client.follow(arguments.id, after=arguments.after, item_id=arguments.item)
    return client.ask(
        prompt,
        model=arguments.model,
        instructions=arguments.instructions,
        previous_response_id=arguments.previous,
        idempotency_key=arguments.key,
    )


async def _show(answer: Answer, terminal: Terminal, name: str) -> int:
    async for event in answer.events():
        terminal.show(event)
    terminal.end(answer)
    if answer.error is not None:
        terminal.write_line(f"{name}: {answer.error}")
        _advise(answer.error, terminal, name)
        if isinstance(answer.error, OutcomeUnknown):
            terminal.write_line(
                f"{name}: send the same prompt again with --key {answer.idempotency_key}"
            )
        elif answer.id is not None and isinstance(answer.error, Closed):
            terminal.write_line(f"{name}: resume with: {name} --id {answer.id}")
        elif answer.id is not None and isinstance(answer.error, Failed):
            terminal.write_line(f"{name}: the operator sees why: holdline status {answer.id}")
        return _code(answer.error)
    if answer.status == "incomplete":
        terminal.write_line(
            f"{name}: the answer was cut off: {answer.incomplete_reason or 'incomplete'}"
        )
    elif answer.status == "cancelled":
        terminal.write_line(f"{name}: the answer was cancelled")
    return _ENDS.get(answer.status, FAILED)


def _code(error: Error) -> int:
    match error:
        case Closed(status=status) if 400 <= status < 500:
            return FAILED
        case Closed():
            return UNREACHABLE
        case ChecksumMismatch():
            return CHECKSUM_MISMATCH
        case _:
            return FAILED


def _advise(error: Error, terminal: Terminal, name: str) -> None:
    if error.status == HTTPStatus.UNAUTHORIZED:
        terminal.write_line(
            f"{name}: set HOLDLINE_TOKEN to an API key or a token of this server; "
            "its operator creates an API key with: holdline keys create TENANT"
        )


def _interrupted(answer: Answer, terminal: Terminal, arguments: Namespace) -> None:
    server = "" if arguments.url == DEFAULT_URL else f" --url {arguments.url}"
    if answer.id is not None:
        item = f" --item {answer.item_id}" if answer.item_id else ""
        after = f" --after {answer.last}{item}" if terminal.streams and answer.last >= 0 else ""
        terminal.write_line(
            f"The answer continues. To see it: {arguments.name}{server} --id {answer.id}{after}"
        )
    else:
        terminal.write_line(
            "The server may not have accepted the prompt. To get exactly one answer, "
            f"send the same prompt again with --key {answer.idempotency_key}"
        )


async def _run(arguments: Namespace, prompt: str) -> int:
    terminal = Terminal(sys.stdout, sys.stderr, stream=arguments.stream, json=arguments.json)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    client = connect(
        arguments.url, token=os.environ.get("HOLDLINE_TOKEN") or None, ping_seconds=PING_SECONDS
    )
    asking = asyncio.create_task(_ask(client, arguments, prompt, terminal), name="ask")
    stopped = asyncio.create_task(stop.wait(), name="signal")
    try:
        await asyncio.wait({asking, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if asking.done():
            return asking.result()
    finally:
        for task in (asking, stopped):
            task.cancel()
        await asyncio.wait({asking, stopped})
    return INTERRUPTED


async def _ask(client: Client, arguments: Namespace, prompt: str, terminal: Terminal) -> int:
    loop = asyncio.get_running_loop()

    def continued() -> None:
        # The user has stopped and continued this program (Ctrl-Z and fg). In the meantime the
        # socket may have died, and other output may have replaced the status.
        client.probe()
        terminal.redraw()

    loop.add_signal_handler(signal.SIGCONT, continued)
    terminal.show(Connection("connecting"))
    try:
        async with client:
            answer = _begin(client, arguments, prompt)
            try:
                return await _show(answer, terminal, arguments.name)
            except asyncio.CancelledError:
                _interrupted(answer, terminal, arguments)
                raise
    except Closed as error:
        terminal.write_line(f"{arguments.name}: {error}")
        _advise(error, terminal, arguments.name)
        return _code(error)
    finally:
        loop.remove_signal_handler(signal.SIGCONT)


def main(argv: Sequence[str] | None = None, name: str = NAME) -> int:
    """Runs the command and returns its exit code. `name` is the name of the command in messages."""
    parsing = parser(name)
    arguments = parsing.parse_args(argv)
    try:
        prompt = _prompt(parsing, arguments)
        for value in (prompt, *vars(arguments).values()):
            str(value).encode()  # A byte that is not UTF-8 becomes half a surrogate pair.
    except UnicodeError:
        parsing.error("the prompt and all options must be UTF-8")
    try:
        connect(arguments.url)
    except ValueError as error:
        parsing.error(str(error))
    try:
        return asyncio.run(_run(arguments, prompt))
    except BrokenPipeError:
        # The reader of standard output has closed the pipe. Python flushes standard output at exit.
        # Without this redirection to the null device, the flush would fail again.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE


if __name__ == "__main__":
    sys.exit(main())
