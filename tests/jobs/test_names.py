"""Tests that ids, and the Redis keys derived from them, never contain unchecked input."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import UnknownResponse
from jobs.ids import MAX_PARTITIONS, item_id, new_response_id, pick_partition, response_of
from jobs.names import Partition, partition_of

GOOD = "resp_" + "0" * 3 + "a" * 32


@given(st.integers(0, MAX_PARTITIONS - 1))
def test_an_id_contains_its_partition(partition: int) -> None:
    assert partition == partition_of(new_response_id(partition))


def test_ids_are_unique() -> None:
    assert 1000 == len({new_response_id(0) for _ in range(1000)})


@pytest.mark.parametrize(
    "hostile",
    [
        pytest.param("", id="empty"),
        pytest.param("resp_", id="nothing after the prefix"),
        pytest.param(GOOD[:-1], id="one digit short"),
        pytest.param(GOOD + "a", id="one digit long"),
        pytest.param(GOOD + "\n", id="a line feed at the end"),
        pytest.param("\n" + GOOD, id="a line feed in front"),
        pytest.param(GOOD[:-1] + "{", id="an opening brace"),
        pytest.param(GOOD[:-1] + "}", id="a closing brace"),
        pytest.param(GOOD[:-1] + ":", id="a colon"),
        pytest.param(GOOD[:-1] + "*", id="a star"),
        pytest.param(GOOD[:-1] + "\0", id="a NUL"),
        pytest.param(GOOD[:-1] + "A", id="a capital"),
        pytest.param(GOOD[:-1] + "\u0661", id="an Arabic digit"),
        pytest.param(GOOD[:-1] + "\uff11", id="a full-width digit"),
        pytest.param(GOOD[:-1] + "\ud800", id="a lone surrogate"),
        pytest.param("RESP_" + GOOD[5:], id="another prefix"),
        pytest.param("a" * 10_240, id="ten kilobytes"),
        pytest.param(GOOD + "a" * 10_240, id="ten kilobytes after a good id"),
        pytest.param("resp_-01" + "a" * 32, id="a negative partition"),
    ],
)
def test_a_foreign_id_is_unknown(hostile: str) -> None:
    with pytest.raises(UnknownResponse):
        partition_of(hostile)


@given(st.text())
def test_only_valid_ids_become_part_of_a_key(text: str) -> None:
    try:
        partition_of(text)
    except UnknownResponse:
        return
    assert re.fullmatch(r"resp_[0-9a-f]{35}", text)


def test_all_keys_of_a_partition_share_its_hash_tag() -> None:
    names = Partition(17)
    keys = [
        names.job(GOOD),
        names.log(GOOD),
        names.notifications(GOOD),
        names.idempotency("owner{1}", "key{2}"),
        names.ready,
        names.idle,
        names.since,
        names.queue_names,
        names.tenants,
        names.usage(20_000),
        names.workers,
        names.worker("id"),
        names.servers,
        names.server("id"),
        names.followed,
        names.tenant("t"),
        names.running("t"),
        names.held("t"),
        names.open_of("t"),
        names.rate("t"),
        names.pause("m"),
        names.pace("m"),
        names.used("t", 20_000),
        names.waiting_prefix,
        names.idle_workers,
        names.wake("worker"),
        names.leases,
        names.delayed,
        names.open,
        names.dead,
        names.numbers,
        names.cancels,
        names.claimed("claim"),
        names.probe("process"),
    ]

    assert {"17"} == {re.findall(r"\{([^}]*)\}", key)[0] for key in keys}
    assert len(keys) == len(set(keys))


@given(st.text(), st.text(min_size=1))
def test_an_idempotency_key_is_stored_only_as_a_digest(owner: str, key: str) -> None:
    assert re.fullmatch(r"holdline:\{3\}:key:[0-9a-f]{64}", Partition(3).idempotency(owner, key))


@pytest.mark.parametrize("key", ["\udcff", "a\0b", "é", "👩‍👧"])
def test_an_idempotency_key_may_be_any_text(key: str) -> None:
    assert 0 <= pick_partition(range(8), "public", key) < 8
    assert Partition(0).idempotency("public", key) != Partition(0).idempotency("public", key + "!")


@given(st.integers(0, 1000), st.integers(1, 1000), st.text(min_size=1, max_size=20))
def test_an_idempotency_key_always_selects_the_same_partition(
    first: int, count: int, key: str
) -> None:
    partitions = range(first, first + count)
    picked = {pick_partition(partitions, "public", key) for _ in range(3)}

    assert 1 == len(picked)
    assert picked.pop() in partitions


def test_requests_without_a_key_are_spread_over_all_partitions() -> None:
    assert {7, 8, 9, 10} == {pick_partition(range(7, 11), "public", None) for _ in range(500)}


def test_idempotency_keys_of_two_owners_never_collide() -> None:
    names = Partition(0)

    assert names.idempotency("a", "key") != names.idempotency("b", "key")
    assert names.idempotency("a", "b") != names.idempotency("a\0b", "")


def test_two_attempts_never_share_the_id_of_an_item() -> None:
    ids = [
        item_id(prefix, GOOD, attempt, index)
        for prefix in ("msg", "rs", "fc")
        for attempt in range(1, 101)
        for index in range(5)
    ]

    assert len(ids) == len(set(ids))
    assert ids[0] == item_id("msg", GOOD, 1, 0)


def test_an_item_id_leads_to_its_response() -> None:
    assert GOOD == response_of(item_id("fc", GOOD, 3, 300, "c0ffee"))
    assert GOOD == response_of(item_id("msg", GOOD, 0, 0))
    for alien in ("", "msg_1", GOOD, item_id("msg", GOOD, 0, 0) + ":", "msg_" + "g" * 39):
        with pytest.raises(UnknownResponse):
            response_of(alien)
