"""The command `holdline completion`, which prints the script that completes commands in a shell."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

from runtime import command_line

SHELLS: Final = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}
NAME: Final = "holdline"
# The script sets this variable, and Click then prints completions instead of running the command.
VARIABLE: Final = "_HOLDLINE_COMPLETE"
HELP: Final = """\
Prints a script that completes the commands and options of `holdline` in a shell.

examples:
  echo 'eval "$(holdline completion bash)"' >> ~/.bashrc
  echo 'eval "$(holdline completion zsh)"' >> ~/.zshrc
  holdline completion fish > ~/.config/fish/completions/holdline.fish\
"""


@click.command(cls=command_line.Command, help=HELP)
@click.argument("shell", type=click.Choice(list(SHELLS)))
@click.pass_context
def completion(context: click.Context, *, shell: str) -> None:
    """Prints the script for a shell."""
    root = context.find_root().command
    click.echo(SHELLS[shell](root, {}, NAME, VARIABLE).source())
