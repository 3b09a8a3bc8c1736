"""Compares the estimated memory of a decoded job with the size that Python reports."""

from __future__ import annotations

import tracemalloc
from typing import Any

import msgspec
import pytest

from worker.job_size import overhead

PART = {"type": "input_text", "text": "abc"}
ITEM = {"type": "message", "role": "user", "content": [PART], "id": "msg_1", "status": "completed"}


@pytest.mark.parametrize("value", [{}, [], "a", 1.5, PART, ITEM], ids=repr)
def test_the_counted_size_is_an_upper_bound_for_every_type_of_value(value: Any) -> None:
    packed = msgspec.msgpack.encode([value] * 1000)
    tracemalloc.start()
    decoded = msgspec.msgpack.decode(packed)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 1.3 * (len(packed) + overhead(decoded))
