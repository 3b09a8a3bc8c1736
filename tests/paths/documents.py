"""Reads the project's documents, and the tables and code blocks in them."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()
START = (ROOT / "docs/start.md").read_text()
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text()
PROTOCOL = (ROOT / "docs/protocol.md").read_text()
REFERENCE = (ROOT / "docs/protocol-reference.md").read_text()
REDIS = (ROOT / "docs/redis.md").read_text()
CLIENT = (ROOT / "docs/client.md").read_text()
CONFIGURE = (ROOT / "docs/configure.md").read_text()
MODELS = (ROOT / "docs/models.md").read_text()
SECURE = (ROOT / "docs/secure.md").read_text()
OPERATING = (ROOT / "docs/operating.md").read_text()
WATCH = (ROOT / "docs/watch.md").read_text()
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
ADDRESS = "http://127.0.0.1:8080"


def section(document: str, heading: str) -> str:
    """Returns the text under a heading."""
    return document.split(f"\n## {heading}\n")[1].split("\n## ", maxsplit=1)[0]


def rows_of(text: str) -> list[list[str]]:
    """Returns the rows of all tables in a text, without header rows."""
    lines = text.splitlines()
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line, following in pairwise([*lines, ""])
        if line.startswith("| ") and not following.startswith("|---")
    ]
    assert rows, "no table"
    return rows


def table(document: str, heading: str) -> list[list[str]]:
    return rows_of(section(document, heading))


def words(cell: str) -> list[str]:
    """Returns the code spans in a table cell."""
    found: list[str] = re.findall(r"`([^`]+)`", cell)
    return found


def first_words(rows: list[list[str]]) -> list[str]:
    """Returns the code spans in a table's first column."""
    return [word for row in rows for word in words(row[0])]


def blocks(document: str, language: str) -> list[str]:
    """Returns the fenced code blocks of a language; "" selects blocks without a language."""
    fenced = re.split(r"^```(.*)\n", document, flags=re.MULTILINE)
    # The split yields text, opening fence, code, closing fence, and then text again.
    return [
        block for name, block in zip(fenced[1::4], fenced[2::4], strict=True) if name == language
    ]
