"""The command line of `holdline-ask`, which reads like the commands of `holdline`."""

from __future__ import annotations

import argparse
import os
import re
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterable

DEFAULT_URL: Final = "http://127.0.0.1:8080"
USAGE: Final = 2
_WIDTH: Final = 80
_HELP_COLUMN: Final = 26
_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,19}")
_HELP: Final = """\
Sends a prompt to a Holdline server, and shows the answer as it is generated.

PROMPT is the prompt; - reads it from standard input. The exit status is 0 if the answer is
completed, 1 if it failed or was refused, 2 after wrong usage, 3 if it is incomplete (cut off at a
limit or by a filter), 4 if it was cancelled, 5 without a connection, 6 if the text does not match
its checksum, and 130 after Ctrl-C.

examples:
  {name} "Why is the sky blue?"
  {name} - < prompt.txt                      read the prompt from standard input
  {name} --previous resp_... "And at dusk?"  continue a conversation
  {name} --id resp_...                       show an existing response
  {name} --json "Why?" | jq -r .id           print the response as one JSON object
"""
_ENVIRONMENT: Final = """\
environment:
  HOLDLINE_URL    URL of the server
  HOLDLINE_TOKEN  API key or token, if the server requires one"""


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Formats the help like that of Click."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=_HELP_COLUMN, width=_WIDTH)

    def add_usage(
        self,
        usage: str | None,
        actions: Iterable[argparse.Action],
        groups: Iterable[argparse._MutuallyExclusiveGroup],
        prefix: str | None = None,
    ) -> None:
        del prefix
        super().add_usage(usage, actions, groups, "Usage: ")


class _Once(argparse.Action):
    """Stores the value of an option. Refuses a second value, because one of them would be lost."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Stores the value."""
        del parser
        given: set[str] = namespace.__dict__.setdefault("given", set())
        if option_string is not None and self.dest in given:
            raise argparse.ArgumentError(self, "the option is given twice")
        given.add(self.dest)
        setattr(namespace, self.dest, values)


def _whole(written: str) -> int:
    """Parses a whole number. Unlike `int`, refuses spaces, underscores and other digits."""
    if _WHOLE.fullmatch(written) is None:
        raise argparse.ArgumentTypeError(f"{written!r} is not a whole number")
    return int(written)


class Parser(argparse.ArgumentParser):
    """Parses the arguments of the command, and reports wrong usage in one line."""

    def error(self, message: str) -> NoReturn:
        """Exits with an error that names the help."""
        text = message if message.isprintable() else ascii(message)
        self.exit(USAGE, f"{self.prog}: {text}; see {self.prog} --help\n")


def parser(name: str) -> Parser:
    """Returns the parser. `name` is the name of the command in its messages."""
    made = Parser(
        prog=name,
        usage=f"{name} [OPTIONS] [PROMPT]",
        description=_HELP.format(name=name),
        epilog=_ENVIRONMENT,
        formatter_class=_Formatter,
        add_help=False,
        allow_abbrev=False,
    )
    made.register("action", None, _Once)
    made.add_argument("prompt", nargs="?", help=argparse.SUPPRESS)
    options = made.add_argument_group("Options")
    options.add_argument(
        "--url",
        default=os.environ.get("HOLDLINE_URL") or DEFAULT_URL,
        help=f"URL of the server (default: $HOLDLINE_URL, or {DEFAULT_URL})",
    )
    options.add_argument("--model", help="name of the model (default: the server's)")
    options.add_argument("--instructions", metavar="TEXT", help="instructions for the model")
    options.add_argument("--previous", metavar="ID", help="the response that this prompt continues")
    options.add_argument(
        "--key", help="an idempotency key: repeating it with the same prompt gives the same answer"
    )
    options.add_argument("--id", help="show this response instead of sending a prompt")
    options.add_argument(
        "--after",
        type=_whole,
        metavar="N",
        default=-1,
        help="show only events after this sequence number (default: -1)",
    )
    options.add_argument(
        "--item", metavar="ID", help="id of the output item at --after, as printed by this command"
    )
    options.add_argument(
        "--json",
        action="store_true",
        help="print JSON: the finished response as one object, instead of its text",
    )
    options.add_argument(
        "--stream",
        action=argparse.BooleanOptionalAction,
        help="write text as it arrives (default: only if the output is a terminal)",
    )
    options.add_argument(
        "--version",
        action="version",
        version=f"%(prog)s {_version()}",
        help="Show the version and exit.",
    )
    options.add_argument("-h", "--help", action="help", help="Show this message and exit.")
    made.set_defaults(name=name)
    return made


def _version() -> str:
    try:
        return version("holdline-client")
    except PackageNotFoundError:
        return "(not installed)"
