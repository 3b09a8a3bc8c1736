"""The command `holdline up`."""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from jobs.config.settings import ConfigError
from runtime import command_line

from .data_dir import data_dir
from .embedded import DataDirError
from .redis import NoRedisError
from .run import CannotStartError, run

ENVIRONMENT: Final = """environment:
  HOLDLINE_HOST, HOLDLINE_PORT   address and port of the server (default: 127.0.0.1, 8080)
  HOLDLINE_DATA_DIR              data folder of the embedded Redis
  REDIS_URL                      URL of your own Redis, to use instead of the embedded Redis
  OPENAI_API_KEY                 API key of the model's endpoint
  OPENAI_BASE_URL                base URL of the model's endpoint, which is OpenAI-compatible
  HOLDLINE_MODEL                 model for requests that name no model
  HOLDLINE_MODELS                file that defines several models and prompt templates
If neither an OPENAI_ variable nor HOLDLINE_MODELS is set, a simulated model answers;
see `holdline demo-model --help`.
For the other settings, see `holdline server --help` and `holdline worker --help`."""
HELP: Final = """\
Runs Redis, a server, a worker and a simulated model on this machine. Ctrl-C stops everything.

The other commands find the Redis of `holdline up`, if REDIS_URL is not set. Stored responses
survive a restart.

examples:
  holdline up                                  open http://127.0.0.1:8080
  OPENAI_API_KEY=... HOLDLINE_MODEL=gpt-4.1-mini holdline up
  OPENAI_BASE_URL=http://127.0.0.1:11434/v1 HOLDLINE_MODEL=llama3.2 holdline up
  HOLDLINE_PORT=8081 holdline up\
"""


@click.command(cls=command_line.Command, help=HELP, epilog=ENVIRONMENT)
@click.option(
    "--data-dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="data folder of the embedded Redis (default: $HOLDLINE_DATA_DIR, or holdline in the "
    "user's folder for data)",
)
def up(*, folder: Path | None) -> int:
    """Runs everything until it is stopped, and returns the exit status."""

    def start() -> int:
        try:
            place = folder or data_dir(os.environ)
        except RuntimeError:
            raise ConfigError("this user has no home folder: set HOLDLINE_DATA_DIR") from None
        return asyncio.run(run(os.environ, place, "holdline up"))

    return reported(start)


def reported(start: Callable[[], int]) -> int:
    """Returns the exit status of `start`, or prints its error and returns the status for it."""
    try:
        return start()
    except ConfigError as error:
        print(f"holdline: {error}", file=sys.stderr)
        return command_line.INVALID_SETTINGS
    except (CannotStartError, NoRedisError, DataDirError) as error:
        print(f"holdline: {error}", file=sys.stderr)
        return command_line.FAILED
