"""The command `holdline ask`, which is `holdline-ask` of the Python client."""

from __future__ import annotations

from typing import Final

import click

from holdline_client.__main__ import main
from runtime import command_line

NAME: Final = "holdline ask"


class _PassedOn(command_line.Command):
    """A command whose arguments the client parses, because its package does not depend on Click."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.params["arguments"] = tuple(args)
        return []


def _ask(*, arguments: tuple[str, ...]) -> int:
    return main(arguments, NAME)


ask: Final = _PassedOn("ask", callback=_ask, add_help_option=False)
