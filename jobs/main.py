"""Runs the command line of a server or a worker, from its arguments to its exit status."""

from __future__ import annotations

import asyncio
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Generic, NoReturn, Protocol, TypeVar, cast

import click
import structlog

from runtime import command_line, logs
from runtime.core_dumps import disable_core_dumps
from runtime.open_files import raise_open_file_limit
from runtime.supervisor import CANNOT_START, Children, run, supervise
from runtime.telemetry import InvalidTelemetry, asks_for_traces, telemetry

from .config.settings import ConfigError, help_text, ignored_links, text
from .config.shared_config import hide
from .errors import RedisTrouble
from .redis.check import check
from .redis.url import redis_from_url

if TYPE_CHECKING:
    from .cipher import Cipher

log = structlog.get_logger()

CHECK_SECONDS: Final = 4.0


class ProgramConfig(Protocol):
    """The settings that this module reads from the configuration of a server or a worker."""

    @property
    def redis_url(self) -> str: ...
    @property
    def cipher(self) -> Cipher | None: ...
    @property
    def processes(self) -> int: ...


C = TypeVar("C", bound=ProgramConfig)


class Program(ABC, Generic[C]):
    """The base class of the two programs, server and worker.

    `package` is the package that `python -m` runs, and `about` the description in `--help`. Most
    methods may raise ConfigError.
    """

    def __init__(self, name: str, package: str, about: str) -> None:
        self.name = name
        self.package = package
        self.about = about

    @abstractmethod
    def load(self, environ: Mapping[str, str]) -> C:
        """Reads the program's configuration from environment variables and returns it."""

    @abstractmethod
    def summary(self, config: C, *, ask_models: bool) -> Iterable[str]:
        """Returns the lines that `--check` prints about the settings."""

    @abstractmethod
    def children(self, config: C) -> Children:
        """Returns the settings for running the program as several child processes."""

    @abstractmethod
    async def serve(self, config: C, *, child: Path | None) -> None:
        """Runs one process of the program until a stop signal arrives.

        If `child` is set, the process shares its port with other child processes, writes its
        metrics to the file `child`, and stops when its parent process dies.
        """

    def leave(self, status: int) -> NoReturn:
        """Exits the process with this status."""
        sys.exit(status)

    def command(self) -> click.Command:
        """Returns the command line of the program.

        It exits with 0 after a stop signal or a successful `--check`, and with 1 if the program
        cannot start.
        """

        def start(
            *, check: bool, ask_models: bool, processes: str | None, child: Path | None
        ) -> NoReturn:
            environ = dict(os.environ)
            if processes is not None:
                environ["HOLDLINE_PROCESSES"] = processes
            self.leave(self._run(environ, check=check, ask_models=ask_models, child=child))

        return command_line.Command(
            self.name,
            callback=start,
            params=[
                click.Option(
                    ["--check"], is_flag=True, help="check the settings and Redis, then exit"
                ),
                click.Option(
                    ["--ask-models"],
                    is_flag=True,
                    hidden=self.name != "worker",
                    help="with --check: send each model a short prompt, which its provider may "
                    "bill",
                ),
                click.Option(
                    ["--processes"], metavar="N", help="run N processes, usually one per core"
                ),
                click.Option(["--child"], hidden=True, type=click.Path(path_type=Path)),
            ],
            help=self.about,
            epilog=help_text(self.name),
        )

    def _run(
        self, environ: dict[str, str], *, check: bool, ask_models: bool, child: Path | None
    ) -> int:
        disable_core_dumps()
        raise_open_file_limit()
        try:
            logs.configure(
                cast("logs.Format", text(environ, "HOLDLINE_LOG_FORMAT")),
                cast("logs.Level", text(environ, "HOLDLINE_LOG_LEVEL")),
            )
            _warn_of_links(environ)
            config = self.load(environ)
            if check:
                self._show(config, environ, ask_models=ask_models)
            elif config.processes > 1:
                asks_for_traces(environ)  # an error should not appear in each child
                children = self.children(config)
                return asyncio.run(supervise(self.package, config.processes, children))
            else:
                with telemetry(f"holdline-{self.name}", environ):
                    run(self.serve(config, child=child))
        except (ConfigError, InvalidTelemetry, RedisTrouble) as error:
            command_line.print_error(f"{self.name}: {error}")
            return CANNOT_START if child else 1
        return 0

    def _show(self, config: C, environ: Mapping[str, str], *, ask_models: bool) -> None:
        print(f"Redis at {hide(config.redis_url)}: {asyncio.run(_checked(config))}")
        print(f"prompts and answers: {config.cipher or 'not encrypted'}")
        if asks_for_traces(environ):
            print("traces: exported")
        for line in self.summary(config, ask_models=ask_models):
            print(line)


def _warn_of_links(environ: Mapping[str, str]) -> None:
    for name in ignored_links(environ):
        log.warning(
            "setting ignored: Kubernetes or Docker injected this variable as a service link",
            setting=name,
            action="set enableServiceLinks to false, or rename the service",
        )


async def _checked(config: ProgramConfig) -> str:
    redis = redis_from_url(config.redis_url, config.cipher)
    async with redis.pipe(deadline=CHECK_SECONDS) as pipe:
        try:
            return await check(pipe)
        except RedisTrouble as error:
            raise ConfigError(f"REDIS_URL={hide(config.redis_url)}: {error}") from None
