"""Tests the loop that settles conversations after the death of a server or a worker."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.conversations import ConversationStore
from jobs.errors import RedisAway
from tests.worker.conftest import MakeHarness
from worker.conversation_settler import conversation_settler


async def test_an_unavailable_partition_keeps_no_other_from_being_settled(
    make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    async def claim_unsettled(_: ConversationStore, partition: int) -> list[Any]:
        asked.append(partition)
        if partition == 0:
            raise RedisAway("away")
        return []

    monkeypatch.setattr(ConversationStore, "claim_unsettled", claim_unsettled)
    async with make_harness(HOLDLINE_PARTITIONS="3") as harness:
        with pytest.raises(RedisAway):
            await conversation_settler(harness.context)._tick()
    assert [0, 1, 2] == sorted(asked)
