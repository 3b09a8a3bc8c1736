"""Requests of one tenant that become the most, within the default limits or just beyond."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from typing import Any

from server.api.request import MAX_VALUES

BODY_BYTES = 1_048_576
# So that a worker holds the job: the model answers with headers, and then with nothing.
HOLD = "mode=headers"
LARGE = "x" * 900_000

Body = Callable[[str], bytes]


def asks(**members: Any) -> bytes:
    return json.dumps({"background": True, "model": "m", "input": HOLD, **members}).encode()


def shown(*items: Any) -> bytes:
    return asks(input=[*items, {"role": "user", "content": HOLD}])


def references(count: int) -> Body:
    return lambda item_id: shown(*[{"type": "item_reference", "id": item_id}] * count)


def tool(**parameters: Any) -> dict[str, Any]:
    return {"type": "function", "name": "f", "parameters": parameters}


def part(text: str = "") -> dict[str, Any]:
    return {"type": "input_text", "text": text}


def call(number: int) -> list[dict[str, Any]]:
    called = {"type": "function_call", "call_id": f"c{number}", "name": "f", "arguments": "{}"}
    return [called, {"type": "function_call_output", "call_id": f"c{number}", "output": "x"}]


VALUES = MAX_VALUES - 100
# What is sent, by the id of a stored item of 900 KB, and the status of the answer.
CASES: dict[str, tuple[Body, int]] = {
    "560 references to a large item": (references(560), 400),
    "1000 references to a large item": (references(1000), 400),
    "4 references to a large item": (references(4), 200),
    "a megabyte of empty objects": (lambda _: b'{"input": [' + b"{}," * 349_000 + b"{}]}", 400),
    "as many empty objects as may be": (lambda _: asks(tools=[tool(a=[{}] * VALUES)]), 200),
    "as many keys as may be": (
        lambda _: asks(tools=[tool(**{f"{n:x}": 0 for n in range(VALUES)})]),
        200,
    ),
    "as many parts as may be": (
        lambda _: shown({"role": "user", "content": [part()] * 28_000}),
        200,
    ),
    "as many items as may be": (lambda _: shown(*[{"role": "user", "content": "x"}] * 9_900), 200),
    "more items than may be": (lambda _: shown(*[{"role": "user", "content": "x"}] * 12_000), 400),
    "a history of calls": (lambda _: shown(*[one for n in range(4_900) for one in call(n)]), 200),
    "nested as deep as a megabyte": (lambda _: b'{"input":' + b"[" * 1_000_000, 400),
    "128 large tools": (
        lambda _: asks(tools=[tool(a="y" * 7_900) | {"name": f"f{n}"} for n in range(128)]),
        200,
    ),
    "a long list of words in a schema": (
        lambda _: asks(
            text={
                "format": {
                    "type": "json_schema",
                    "name": "s",
                    "schema": {"enum": [f"{n:x}" for n in range(90_000)]},
                }
            }
        ),
        200,
    ),
    "a pattern that backtracks": (
        lambda _: asks(tools=[tool(pattern="(a+)+$" * 150_000)]),
        200,
    ),
    "large metadata": (lambda _: asks(metadata={"a": LARGE}), 400),
    "a megabyte of text": (lambda _: asks(input=f"{HOLD} {LARGE}"), 200),
    "a body that inflates": (lambda _: gzip.compress(b"a" * 200_000_000, 1), 413),
}
# Those that a gate can wait for: one of each kind.
QUICK = (
    "560 references to a large item",
    "4 references to a large item",
    "a megabyte of empty objects",
    "as many empty objects as may be",
    "as many items as may be",
    "a body that inflates",
)
