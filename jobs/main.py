"""Runs the command line of a server or a worker, from its arguments to its exit status."""

from __future__ import annotations

import asyncio
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Generic, NoReturn, Protocol, TypeVar, cast

import click
import structlog

from runtime import command_line, logs
from runtime.core_dumps import disable_core_dumps
from runtime.heartbeat import heartbeats
from runtime.open_files import raise_open_file_limit
from runtime.service_manager import watched
from runtime.supervisor import CANNOT_START, MAX_PROCESSES, Children, run, supervise
from runtime.telemetry import InvalidTelemetry, asks_for_traces, telemetry

from .config.settings import ConfigError, help_text, ignored_links, text
from .config.shared_config import hide
from .errors import HoldlineError, RedisTrouble
from .redis.check import check
from .redis.url import redis_from_url

if TYPE_CHECKING:
    from .cipher import Cipher

log = structlog.get_logger()

CHECK_SECONDS: Final = 4.0


class CannotListen(HoldlineError):
    """A program cannot listen on its address, for example because the port is in use."""


class ServiceUnavailable(HoldlineError):
    """The settings are valid, but a service that they name cannot be used."""


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
    def summary(self, config: C, *, connect: bool, ask_models: bool) -> AsyncIterator[str]:
        """Yields the lines that `check` shows about the program's own settings."""

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

        It exits with 0 after a stop signal, with 78 if a setting is invalid, and with 1 if the
        program cannot start for another reason.
        """

        def start(*, processes: int | None, child: Path | None) -> NoReturn:
            environ = dict(os.environ)
            if processes is not None:
                environ["HOLDLINE_PROCESSES"] = str(processes)
            self.leave(self._run(environ, child=child))

        return command_line.Command(
            self.name,
            callback=start,
            params=[
                click.Option(
                    ["--processes"],
                    type=command_line.WholeNumber(1, MAX_PROCESSES),
                    metavar="N",
                    help="run N processes, usually one per core",
                ),
                click.Option(["--child"], hidden=True, type=click.Path(path_type=Path)),
            ],
            help=self.about,
            epilog=help_text(self.name),
        )

    def _run(self, environ: dict[str, str], *, child: Path | None) -> int:
        disable_core_dumps()
        raise_open_file_limit()
        try:
            logs.configure(
                cast("logs.Format", text(environ, "HOLDLINE_LOG_FORMAT")),
                cast("logs.Level", text(environ, "HOLDLINE_LOG_LEVEL")),
            )
            _warn_of_links(environ)
            config = self.load(environ)
            if config.processes > 1:
                asks_for_traces(environ)  # an error should not appear in each child
                children = self.children(config)
                return asyncio.run(supervise(self.package, config.processes, children))
            with telemetry(f"holdline-{self.name}", environ):
                run(self._served(config, child))
        except (ConfigError, InvalidTelemetry) as error:
            command_line.print_error(f"{self.name}: {error}")
            return command_line.INVALID_SETTINGS
        except (CannotListen, RedisTrouble) as error:
            command_line.print_error(f"{self.name}: {error}")
            return CANNOT_START if child else command_line.FAILED
        return 0

    async def _served(self, config: C, child: Path | None) -> None:
        async with watched(), heartbeats(is_child=child is not None):
            await self.serve(config, child=child)

    async def check(
        self, environ: Mapping[str, str], *, connect: bool, ask_models: bool
    ) -> AsyncGenerator[str, None]:
        """Checks the settings as at a start, and yields a line about each part of them.

        Reaches nothing outside of this machine, unless `connect` or `ask_models` is True.

        Raises: ConfigError, InvalidTelemetry; ServiceUnavailable if Redis, a model or a key of a
            model cannot be used.
        """
        config = self.load(environ)
        yield f"prompts and answers: {config.cipher or 'not encrypted'}"
        if asks_for_traces(environ):
            yield "traces: exported"
        async for line in self.summary(config, connect=connect, ask_models=ask_models):
            yield line
        if connect:
            yield f"Redis at {hide(config.redis_url)}: {await _checked(config)}"


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
            raise ServiceUnavailable(f"REDIS_URL={hide(config.redis_url)}: {error}") from None
