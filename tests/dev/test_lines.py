"""What children log is shown to a person."""

import pytest

from dev.lines import readable


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
def test_structured_lines_become_words_and_others_stay(line: str, shown: str) -> None:
    assert shown == readable(line)
