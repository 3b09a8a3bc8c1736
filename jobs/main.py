"""Runs the command line of a server or a worker, from its arguments to its exit status."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar, cast

import structlog

from runtime import logs
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

    `package` is the package that `python -m` runs, and `about` the description in `--help`. All
    methods may raise ConfigError.
    """

    def __init__(self, name: str, package: str, about: str | None) -> None:
        self.name = name
        self.package = package
        self.about = about

    @abstractmethod
    def load(self, environ: Mapping[str, str]) -> C:
        """Reads the program's configuration from environment variables and returns it."""

    @abstractmethod
    def summary(self, config: C, arguments: argparse.Namespace) -> Iterable[str]:
        """Returns the lines that `--check` prints about the settings."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Adds the command-line arguments that only this program has."""

    @abstractmethod
    def children(self, config: C) -> Children:
        """Returns the settings for running the program as several child processes."""

    @abstractmethod
    async def serve(self, config: C, *, child: Path | None) -> None:
        """Runs one process of the program until a stop signal arrives.

        If `child` is set, the process shares its port with other child processes, writes its
        metrics to the file `child`, and stops when its parent process dies.
        """

    def main(self) -> int:
        """Runs the command line and returns the exit status.

        The status is 0 after a stop signal or a successful `--check`, and 1 if the program cannot
        start.
        """
        arguments = self._parser().parse_args()
        environ = dict(os.environ)
        if arguments.processes is not None:
            environ["HOLDLINE_PROCESSES"] = arguments.processes
        disable_core_dumps()
        raise_open_file_limit()
        try:
            logs.configure(
                cast("logs.Format", text(environ, "HOLDLINE_LOG_FORMAT")),
                cast("logs.Level", text(environ, "HOLDLINE_LOG_LEVEL")),
            )
            _warn_of_links(environ)
            config = self.load(environ)
            if arguments.check:
                self._show(config, arguments, environ)
            elif config.processes > 1:
                asks_for_traces(environ)  # an error should not appear in each child
                children = self.children(config)
                return asyncio.run(supervise(self.package, config.processes, children))
            else:
                with telemetry(f"holdline-{self.name}", environ):
                    run(self.serve(config, child=arguments.child))
        except (ConfigError, InvalidTelemetry, RedisTrouble) as error:
            print(logs.printable_lines(f"{self.name}: {error}"), file=sys.stderr)
            return CANNOT_START if arguments.child else 1
        return 0

    def _parser(self) -> argparse.ArgumentParser:
        parser = argparse.ArgumentParser(
            prog=f"python -m {self.package}",
            description=self.about,
            epilog=help_text(self.name),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.add_argument(
            "--check", action="store_true", help="check the settings and Redis, then exit"
        )
        self.add_arguments(parser)
        parser.add_argument(
            "--processes", metavar="N", help="run N processes, usually one per core"
        )
        parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
        return parser

    def _show(self, config: C, arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
        print(f"Redis at {hide(config.redis_url)}: {asyncio.run(_checked(config))}")
        print(f"prompts and answers: {config.cipher or 'not encrypted'}")
        if asks_for_traces(environ):
            print("traces: exported")
        for line in self.summary(config, arguments):
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
