"""Lists the commands of `holdline`, and imports only the one that runs.

A server must not load the model's SDK, nor a worker the server, and a command of an operator should
not wait for either. A command is therefore imported when it is called, and the summaries for
`holdline --help` are here.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click
from click.shell_completion import CompletionItem

from runtime import command_line
from runtime.version import program_version

from .up.data_dir import with_running_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Entry:
    """A command in the list of `holdline --help`. `load` imports it."""

    name: str
    summary: str
    load: Callable[[], click.Command]


def _up() -> click.Command:
    from .up.command import up

    return up


def _demo_model() -> click.Command:
    from .demo.model import demo_model

    return demo_model


def _server() -> click.Command:
    from server.__main__ import PROGRAM

    return PROGRAM.command()


def _worker() -> click.Command:
    from worker.__main__ import PROGRAM

    return PROGRAM.command()


def _ask() -> click.Command:
    from .ask import ask

    return ask


def _check() -> click.Command:
    from .check import check

    return check


def _keys() -> click.Command:
    from admin.keys import keys

    return keys


def _signers() -> click.Command:
    from admin.signers import signers

    return signers


def _vapid() -> click.Command:
    from admin.vapid import vapid

    return vapid


def _tenants() -> click.Command:
    from admin.tenants import tenants

    return tenants


def _subject() -> click.Command:
    from admin.subject import subject

    return subject


def _dead() -> click.Command:
    from admin.dead import dead

    return dead


def _cancel() -> click.Command:
    from admin.cancel import cancel

    return cancel


def _audit() -> click.Command:
    from admin.audit import audit

    return audit


def _doctor() -> click.Command:
    from admin.doctor.command import doctor

    return doctor


def _status() -> click.Command:
    from admin.status import status

    return status


def _completion() -> click.Command:
    from .completion import completion

    return completion


def _probe() -> click.Command:
    from .probe import command

    return command()


# The sections of `holdline --help`, in order.
SECTIONS: Final = {
    "run": (
        Entry("up", "run everything on this machine, with a Redis and a simulated model", _up),
        Entry("server", "run a server, which accepts requests and streams responses", _server),
        Entry("worker", "run a worker, which takes prompts and calls models", _worker),
        Entry("check", "check the settings before a start", _check),
        Entry("demo-model", "run the simulated model alone", _demo_model),
    ),
    "look": (
        Entry("ask", "send a prompt to a server, and show the answer", _ask),
        Entry("status", "show the service, or why one response is slow or has failed", _status),
        Entry("doctor", "check an installation, and say what to do", _doctor),
        Entry("probe", "ask a server or a worker on this machine whether it is ready", _probe),
        Entry("audit", "list the changes that operators made with these commands", _audit),
    ),
    "manage": (
        Entry("keys", "create, list, rotate and revoke the API keys of services", _keys),
        Entry("signers", "manage the keys with which backends sign tokens for users", _signers),
        Entry("vapid", "manage the keys that sign pushes to browsers", _vapid),
        Entry("tenants", "show and change the limits of a tenant", _tenants),
        Entry("subject", "export or delete the data of an end user", _subject),
        Entry("cancel", "end a response that runs too long or costs too much", _cancel),
        Entry("dead", "list jobs that no worker tries again, and submit them again", _dead),
        Entry("completion", "print a script that completes commands in a shell", _completion),
    ),
}

HELP: Final = """\
Runs Holdline, a server for slow LLM answers, and manages it.

`holdline COMMAND --help` shows the options of a command, with examples. Commands that print a
result print it as JSON with --json. The exit status is 0, or 1 after an error, or 2 after wrong
usage, or 78 if a setting is invalid.

Settings are environment variables: `holdline server --help` and `holdline worker --help` list them.
The commands for operators read REDIS_URL, which names the Redis of the servers.

examples:
  holdline up                                  run everything; open http://127.0.0.1:8080
  holdline ask "Why is the sky blue?"          ask a question
  HOLDLINE_API_KEYS=redis holdline keys create acme    create an API key for the tenant acme
  holdline tenants set acme running=20         change a limit of the tenant
  holdline status RESPONSE_ID                  see why a response failed
  holdline cancel RESPONSE_ID                  end a response; holdline status lists them\
"""


@click.pass_context
def _set_environ(context: click.Context) -> None:
    """Gives the commands the environment, unless a caller has given another one.

    If REDIS_URL is not set and `holdline up` runs, the settings are those of `holdline up`.
    """
    if context.obj is None:
        context.obj = with_running_settings(os.environ)


@click.pass_context
def _print(context: click.Context, result: Any) -> Any:
    """Prints the lines that a command has returned, and returns the exit status."""
    if not isinstance(result, AsyncIterator):
        return result
    from admin.cli import COMMAND_PATH, show

    return show(context.meta[COMMAND_PATH], result, context.obj)


class Root(command_line.Group):
    """The group of all commands, which imports a command when it is called."""

    def __init__(self, sections: Mapping[str, Sequence[Entry]]) -> None:
        super().__init__("holdline", help=HELP, callback=_set_environ, result_callback=_print)
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


holdline: Final = click.version_option(
    program_version(), "--version", message="holdline %(version)s"
)(Root(SECTIONS))
