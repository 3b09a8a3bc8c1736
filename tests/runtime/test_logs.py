"""Tests the log lines that a process writes."""

from __future__ import annotations

import json
import sys

from runtime.logs import printable_lines
from tests.system import run_command

SCRIPT = """
import structlog
from runtime import logs

logs.configure()
try:
    raise ValueError("the " + "prompt")
except ValueError as error:
    structlog.get_logger().exception("unhandled error", error=type(error).__name__)
    structlog.get_logger().error("unhandled error", exc_info=error)
structlog.get_logger().error("no error", exc_info=None)
"""


async def test_a_logged_traceback_lacks_the_message_of_the_error() -> None:
    output = await run_command(sys.executable, "-c", SCRIPT)
    *lines, last = [json.loads(line) for line in output.splitlines()]
    for line in lines:
        assert line["exception"].endswith("ValueError")
        assert ", line 7," in line["exception"]
    assert "exception" not in last
    assert "the prompt" not in output


async def test_a_control_character_in_a_value_does_not_reach_the_terminal() -> None:
    script = r"""
import structlog
from runtime import logs

logs.configure("text")
structlog.get_logger().info("request handled", model="\x1b[31mred\x9b2J", route="GET /\nforged")
"""
    [line] = (await run_command(sys.executable, "-c", script)).splitlines()
    assert line.isprintable()
    assert r"model=\x1b[31mred\x9b2J" in line


def test_the_lines_of_an_error_have_no_other_control_characters() -> None:
    assert "ERR \\x1b[2J\nand \\x9b" == printable_lines("ERR \x1b[2J\nand \x9b")
