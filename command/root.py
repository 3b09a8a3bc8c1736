"""Lists the commands of `holdline`, and imports only the one that runs.

A server must not load the model's SDK, nor a worker the server, and a command of an operator should
not wait for either. A command is therefore imported when it is called, and the summaries for
`holdline --help` are here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click
from click.shell_completion import CompletionItem

from runtime import command_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Entry:
    """A command in the list of `holdline --help`. `load` imports it."""

    name: str
    summary: str
    load: Callable[[], click.Command]


def _server() -> click.Command:
    from server.__main__ import command

    return command()


def _worker() -> click.Command:
    from worker.__main__ import command

    return command()


def _probe() -> click.Command:
    from .probe import command

    return command()


# The sections of `holdline --help`, in order.
SECTIONS: Final = {
    "run": (
        Entry("server", "run a server, which accepts requests and streams responses", _server),
        Entry("worker", "run a worker, which takes prompts and calls models", _worker),
    ),
    "look": (
        Entry("probe", "ask a server or a worker on this machine whether it is ready", _probe),
    ),
}

HELP: Final = """\
Runs Holdline, a server for slow LLM answers, and manages it.

`holdline COMMAND --help` shows the options of a command, with examples.\
"""


class Root(command_line.Group):
    """The group of all commands, which imports a command when it is called."""

    def __init__(self, sections: Mapping[str, Sequence[Entry]]) -> None:
        super().__init__("holdline", help=HELP)
        self._sections = sections
        self._entries = {entry.name: entry for part in sections.values() for entry in part}

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(self._entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        entry = self._entries.get(cmd_name)
        return entry.load() if entry else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:
            raise click.NoSuchCommand(
                error.command_name, possibilities=self._entries, ctx=ctx
            ) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        for title, entries in self._sections.items():
            with formatter.section(title):
                formatter.write_dl([(entry.name, entry.summary) for entry in entries])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        found = [
            CompletionItem(entry.name, help=entry.summary)
            for entry in self._entries.values()
            if entry.name.startswith(incomplete)
        ]
        return found or click.Command.shell_complete(self, ctx, incomplete)


holdline: Final = Root(SECTIONS)
