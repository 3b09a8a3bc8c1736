"""The command `holdline check`, which reads the settings as a server and a worker would."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

import click

from admin import cli
from admin.cli import PROGRAMS, Output
from jobs.config.environ import with_source
from jobs.config.settings import ConfigError
from jobs.main import ServiceUnavailable
from runtime import command_line
from runtime.telemetry import InvalidTelemetry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from jobs.main import Program

HELP: Final = """\
Checks the settings: reads the environment variables and all files that they name, such as the
models file, the keys and the certificates, as a server and a worker would at their start.

Beside a running `holdline up`, and without REDIS_URL, it checks the settings of `holdline up`, with
the variables of this command in place of them. The first line says which settings were checked.

It reaches no other machine, unless --connect or --ask-models is given. The exit status is 78 if a
setting is invalid, and 1 if only Redis, a model or its key cannot be used. `holdline doctor` checks
the whole installation.

examples:
  holdline check
  holdline check --program server              with the environment of a server
  holdline check --connect                     also connect to Redis
  holdline check --ask-models                  also send each model a short prompt\
"""


@click.command(cls=command_line.Command, help=HELP)
@cli.program_option
@click.option("--connect", is_flag=True, help="also connect to Redis, and run each api_key_command")
@click.option(
    "--ask-models",
    is_flag=True,
    help="also send each model a short prompt, which its provider may bill",
)
@cli.prints
async def check(
    environ: Mapping[str, str], *, programs: tuple[str, ...], connect: bool, ask_models: bool
) -> AsyncIterator[Output]:
    """Checks the settings of each program.

    Raises: after the last line, ConfigError if a setting is invalid, else ServiceUnavailable if a
        service that they name cannot be used.
    """
    found = with_source(environ)
    yield Output(f"checking {found.source}")
    if found.other:
        yield Output(f"to check those of the running `holdline up`: {found.other}")
    problems: dict[str, list[str]] = {}
    are_valid = True
    for name in programs or PROGRAMS:
        lines: list[str] = []
        checking = _program(name).check(
            environ, connect=connect or ask_models, ask_models=ask_models
        )
        problem = None
        async with contextlib.aclosing(checking):
            try:
                async for line in checking:
                    lines.append(line)
                    yield Output(f"{name}  {line}")
            except (ConfigError, InvalidTelemetry, ServiceUnavailable) as error:
                are_valid = are_valid and isinstance(error, ServiceUnavailable)
                problem = str(error)
                problems.setdefault(problem, []).append(name)
        value = {
            "program": name,
            "settings": found.source,
            "valid": problem is None,
            "facts": lines,
            "problem": problem,
        }
        text = "the check failed" if problem else "the settings are valid"
        yield Output(f"{name}  {text}", value)
    if problems:
        # A setting that both programs read is wrong in both, and is reported once.
        told = [f"{' and '.join(names)}: {problem}" for problem, names in problems.items()]
        kind = ServiceUnavailable if are_valid else ConfigError
        raise kind("\n".join(told))


def _program(name: str) -> Program[Any]:
    """Imports a program, which takes seconds on a busy machine."""
    if name == "server":
        from server.__main__ import PROGRAM as SERVER

        return SERVER
    from worker.__main__ import PROGRAM as WORKER

    return WORKER
