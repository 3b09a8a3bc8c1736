"""The options, the output and the errors that all commands of an operator share.

The callback of a command parses nothing and prints nothing: it returns the lines to print, which
`show` prints, and which a test can read in its own event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

import click

from jobs.config.settings import ConfigError
from jobs.config.shared_config import hide, redis_url
from jobs.errors import HoldlineError, RedisAway, RedisNotReady
from runtime.command_line import FAILED, INVALID_SETTINGS, discard_output, print_error
from runtime.logs import printable

from .audited import NotAudited

T = TypeVar("T")

# The key of `click.Context.meta`, which the contexts of nested commands share, with the whole name
# of the command that runs, such as `holdline keys create`.
COMMAND_PATH: Final = f"{__name__}.command_path"
PROGRAMS: Final = ("server", "worker")


@dataclass(frozen=True, slots=True)
class Output:
    """A part of a command's output: its text, and the same as a value for `--json`.

    A text without a value, such as the number of lines in a list, is only for people.
    """

    text: str
    value: Mapping[str, Any] | None = None


# An option of the commands that check the settings of servers and workers.
program_option: Final = click.option(
    "--program",
    "programs",
    type=click.Choice(PROGRAMS),
    multiple=True,
    help="the program for which the environment variables are meant (default: both)",
)

# A command takes the environment, and its parameters by name. It may raise HoldlineError,
# ValueError or OSError.
Run = Callable[..., AsyncIterator[Output]]


def prints(run: Run) -> Callable[..., AsyncIterator[str]]:
    """Gives a command the option `--json`, and renders its output to lines."""

    def command(
        context: click.Context, /, *, wants_json: bool, **parameters: Any
    ) -> AsyncIterator[str]:
        context.meta[COMMAND_PATH] = context.command_path
        return _rendered(run(context.obj, **parameters), wants_json=wants_json)

    functools.update_wrapper(command, run)
    option = click.option(
        "--json", "wants_json", is_flag=True, help="print JSON: one object in each line"
    )
    return option(click.pass_context(command))


def _closing(found: AsyncIterator[T]) -> contextlib.aclosing[AsyncGenerator[T, None]]:
    """Closes a generator as soon as its reader fails.

    Otherwise, the event loop closes all generators at once at its end. A generator that another one
    reads then cannot be closed, which Python reports with a traceback.
    """
    return contextlib.aclosing(cast("AsyncGenerator[T, None]", found))


async def _rendered(found: AsyncIterator[Output], *, wants_json: bool) -> AsyncIterator[str]:
    async with _closing(found):
        async for output in found:
            if not wants_json:
                yield output.text
            elif output.value is not None:
                yield as_json(output.value)


def lines(
    command: click.Command, environ: Mapping[str, str], argv: Sequence[str]
) -> AsyncIterator[str]:
    """Parses the arguments of a command, and yields the lines that it prints.

    Raises: click.ClickException, before the first line.
    """
    found: AsyncIterator[str] = command.main(
        list(argv), prog_name=command.name, standalone_mode=False, obj=environ
    )
    return found


def show(name: str, found: AsyncIterator[str], environ: Mapping[str, str]) -> int:
    """Prints the lines of a command and returns the exit status.

    It is 0, or 78 if a setting is invalid, or 1 after another error.
    """

    async def each() -> None:
        async with _closing(found):
            async for line in found:
                print(line, flush=True)

    try:
        asyncio.run(each())
    except BrokenPipeError:
        raise  # the reader of the output has ended, which is no error
    except (HoldlineError, ValueError, OSError) as error:
        print_error(f"{name}: {error}{_advice(error, environ)}")
        discard_output()  # the error may be that of a write to standard output
        return INVALID_SETTINGS if isinstance(error, ConfigError) else FAILED
    return 0


def total(number: int, noun: str, plural: str = "") -> Output:
    """Returns the last line of a list: the number of its entries."""
    return Output(f"1 {noun}" if number == 1 else f"{number} {plural or noun + 's'}")


def as_json(value: object) -> str:
    """Returns a value as one line of JSON that a terminal can show.

    JSON allows the control characters from U+007F on, which a terminal would execute.
    """
    text = json.dumps(value, ensure_ascii=False)
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in text)


def not_found(response_id: str) -> HoldlineError:
    """Returns the error of a command whose response does not exist."""
    return HoldlineError(
        f"{printable(response_id)} not found: check the id; the response may have expired"
    )


def _advice(error: Exception, environ: Mapping[str, str]) -> str:
    cause = error.__cause__ if isinstance(error, NotAudited) else error
    if not isinstance(cause, RedisAway) or isinstance(cause, RedisNotReady):
        return ""
    place = ", or HOLDLINE_AUDIT=stderr to record changes on standard error only"
    return (
        f" at {hide(redis_url(environ))}; set REDIS_URL to the Redis of your servers, or start "
        f"`holdline up`{place if isinstance(error, NotAudited) else ''}"
    )
