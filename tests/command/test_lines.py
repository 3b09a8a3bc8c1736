"""Tests that the log lines of child processes are formatted for a terminal."""

import pytest

from command.up.lines import readable


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ('{"port": 1, "event": "up", "level": "info", "timestamp": "2026"}', "up  port=1"),
        ('{"event": "Redis is away", "level": "warning"}', "warning: Redis is away"),
        ('{"event": "no", "level": "error", "exception": "Trace\\nE"}', "error: no\nTrace\nE"),
        ("plain words", "plain words"),
        ("{not JSON", "{not JSON"),
        ('{"no": "event"}', '{"no": "event"}'),
        ("", ""),
    ],
)
def test_structured_lines_are_formatted_and_others_are_unchanged(line: str, shown: str) -> None:
    assert shown == readable(line)
