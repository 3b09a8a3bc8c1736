"""Prints the tables of docs/protocol-reference.md: `python -m tests.paths.support_table`."""

from __future__ import annotations

from collections.abc import Mapping

from jobs.support import INCLUDES, ITEMS, PARAMETERS, TOOL_CHOICES, TOOLS, Row

TABLES: Mapping[str, Mapping[str, Row]] = {
    "parameter": PARAMETERS,
    "tool": TOOLS,
    "tool choice": TOOL_CHOICES,
    "item": ITEMS,
    "`include`": INCLUDES,
}


def markdown() -> str:
    """Returns the tables of everything that the standard allows in a request."""
    return "\n\n".join(_table(title, rows) for title, rows in TABLES.items())


def _table(title: str, rows: Mapping[str, Row]) -> str:
    lines = [f'| {title} | `api = "chat"` | `api = "responses"` | note |', "|---|---|---|---|"]
    lines += [
        f"| `{name}` | {row.chat} | {row.responses} | {row.note} |" for name, row in rows.items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown())
