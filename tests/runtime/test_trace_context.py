"""Tests the parsing of the header `traceparent`, with the rules of the W3C recommendation."""

from __future__ import annotations

import pytest

from runtime.trace_context import new, parsed, trace_id

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("header", "flags"),
    [
        (f"00-{TRACE}-{SPAN}-01", "01"),
        (f"00-{TRACE}-{SPAN}-00", "00"),
        (f" 00-{TRACE}-{SPAN}-01 ", "01"),
        (f"00-{TRACE}-{SPAN}-03", "01"),  # other flags are not passed on
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like", "01"),
    ],
)
def test_a_valid_header_is_passed_on_as_version_00(header: str, flags: str) -> None:
    assert f"00-{TRACE}-{SPAN}-{flags}" == parsed(header)
    assert TRACE == trace_id(parsed(header))


@pytest.mark.parametrize(
    "header",
    [
        None,
        5,
        "",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01.more",
        f"cc-{TRACE}-{SPAN}-01-{'x' * 512}",
        f"00-{TRACE}-{SPAN}-01\n00-{TRACE}-{SPAN}-01",
    ],
)
def test_an_invalid_header_is_ignored(header: object) -> None:
    assert "" == parsed(header)


def test_a_new_context_is_valid_and_not_recorded() -> None:
    context = new()
    assert context == parsed(context)
    assert context.endswith("-00")
    assert context != new()
