"""What children log is shown to a person."""

import pytest

from dev.lines import readable


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ('{"address": "http://[::1]:1", "event": "server ready", "level": "info", '
         '"timestamp": "2026-11-23T15:23:47Z"}', "server ready  address=http://[::1]:1"),
        ('{"event": "Redis is away", "level": "warning"}', "warning: Redis is away"),
        ('{"event": "broke", "level": "error", "exception": "Traceback\\nE"}',
         "error: broke\nTraceback\nE"),
        ("plain words", "plain words"),
        ("{not JSON", "{not JSON"),
        ('{"no": "event"}', '{"no": "event"}'),
        ("", ""),
    ],
)  # fmt: skip
def test_structured_lines_become_words_and_others_stay(line: str, shown: str) -> None:
    assert shown == readable(line)
