"""Base classes of all commands, whose help keeps its line breaks and whose errors have one line."""

from __future__ import annotations

import contextlib
import errno
import inspect
import os
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import click

from .logs import printable_lines
from .number import parse_whole

if TYPE_CHECKING:
    from collections.abc import Sequence

# In a checkout, `runtime` is a package of its own. The wheel has it inside of another one.
INSTALLED: Final = "." in __name__.removesuffix(".command_line")
# The exit statuses of all commands; docs/operating.md explains them. INVALID_SETTINGS is EX_CONFIG
# of sysexits.h: the next start would fail too, so systemd does not restart the program.
FAILED: Final = 1
USAGE: Final = 2
INVALID_SETTINGS: Final = 78
INTERRUPTED: Final = 130
# The errors of a write to standard output, for example if it is a file on a full disk.
_NOT_WRITTEN: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE}
_CONTEXT: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class _Help(click.Command):
    """Shows the help text and the epilog as they are written."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{"context_settings": _CONTEXT, **options})

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parses the arguments. Refuses an option with two values, of which one would be lost."""
        if not ctx.resilient_parsing:  # shell completion parses incomplete commands
            _, _, given = self.make_parser(ctx).parse_args(list(args))
            for param, times in Counter(given).items():
                if times > 1 and isinstance(param, click.Option) and _has_one_value(param):
                    raise click.UsageError(f"{param.opts[0]} is given twice", ctx)
        return super().parse_args(ctx, args)

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        if self.help:
            formatter.write(f"\n{inspect.cleandoc(self.help)}\n")

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        if self.epilog:
            formatter.write(f"\n{self.epilog}\n")


def _has_one_value(option: click.Option) -> bool:
    return not (option.multiple or option.is_flag or option.count)


class WholeNumber(click.IntRange):
    """The type of a whole number within bounds."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Returns the number. Unlike `int`, refuses spaces, underscores and other digits."""
        try:
            number = parse_whole(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return int(super().convert(number, param, ctx))


class Command(_Help):
    """A command whose help keeps its line breaks, and whose arguments are not empty."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parses the arguments.

        Refuses "" as an argument, which a script passes if its variable is not set.
        """
        rest = super().parse_args(ctx, args)
        for param in self.params:
            value = ctx.params.get(param.name or "")
            if isinstance(param, click.Argument) and isinstance(value, str) and not value.strip():
                raise click.UsageError(f"{param.human_readable_name} is empty", ctx)
        return rest


class Group(_Help, click.Group):
    """A group of commands whose help keeps its line breaks."""

    command_class = Command


def module_command(module: str) -> list[str]:
    """Returns the command that runs a module of Holdline in a new process.

    An installed Holdline does not search its modules in the working directory, because a file there
    could have the name of a module that Holdline or a library imports. A checkout is the working
    directory.
    """
    return [sys.executable, *(["-P"] if INSTALLED else []), "-m", module]


def run(command: click.Command, name: str, argv: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit status, which is 2 after wrong usage.

    The status is 1 if standard output cannot be written. `name` is the name of the program in its
    messages, and `argv` its arguments, by default those of the process. A callback returns the exit
    status of its command, or None for 0.
    """
    try:
        try:
            return command.main(argv, prog_name=name, standalone_mode=False) or 0
        finally:
            if sys.stdout is not None:  # a process may have been started without one
                sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
    except click.ClickException as error:
        context = error.ctx if isinstance(error, click.UsageError) else None
        path = context.command_path if context else name
        # Click writes the values of a missing argument in lines of their own.
        message = " ".join(error.format_message().split()).rstrip(".?")
        print_error(f"{path}: {message}; see {path} --help")
    except click.Abort:
        return INTERRUPTED
    except OSError as error:
        if error.errno not in _NOT_WRITTEN:
            raise
        discard_output()
        if error.errno != errno.EPIPE:  # the reader of the output has ended, which is no error
            print_error(f"{name}: cannot write the output: {error.strerror}")
        return FAILED
    return USAGE


def discard_output() -> None:
    """Discards output that could not be written, because Python's flush at exit would fail too."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_error(text: str) -> None:
    """Writes an error to standard error, without control characters."""
    print(printable_lines(text), file=sys.stderr)
