"""Tests that a compacted log expands to exactly the original entries, from any index on."""

from __future__ import annotations

import hashlib
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import Undecodable
from jobs.log import compaction as compaction_module
from jobs.log.codec import encode_event
from jobs.log.compaction import BLOCK_BYTES, BLOCK_ENTRIES, Block, compact, expand
from jobs.log.items import Place, annotated, delta
from tests.jobs.factories import a_job, ending, opening, said, saying

PLACES = [
    Place("output_text", "msg_1", 0),
    Place("output_text", "msg_1", 0, 1),
    Place("refusal", "msg_2", 1),
    Place("reasoning_text", "rs_1", 2),
    Place("function_call_arguments", "fc_1", 3),
    Place("summary_text", "rs_1", 2),
]

texts = st.text(max_size=12) | st.sampled_from(["x" * 31, "x" * 32, "ß" * 200, "long " * 300])
deltas = st.builds(
    lambda place, text: encode_event(delta(place, text)), st.sampled_from(PLACES), texts
)
others = st.builds(lambda number: encode_event(annotated(PLACES[0], number, {})), st.integers(0, 9))
# Arbitrary bytes must also be expanded unchanged.
aliens = st.binary(max_size=40) | st.builds(
    lambda head, tail: head + tail,
    st.sampled_from([b"\x95\x01", b"\x94\x07", b"\x95\x01\xa0\x00\x00\xd9\x05", b"\xdb"]),
    st.binary(max_size=8),
)
logs = st.lists(deltas | others | aliens, max_size=60)


def log_of(pieces: list[str]) -> list[bytes]:
    """Returns the log entries of an answer."""
    job, text = a_job(instructions="Be brief. " * 200), "".join(pieces)
    events = [*opening(job), *saying(job, 1, 0, pieces), *said(job, 1, 0, text)]
    return [encode_event(event) for event in [*events, ending(job, text=text)]]


def expanded(blocks: list[Block], start: int = 0) -> list[bytes]:
    entries = []
    for block in blocks:
        entries += expand(block.data, start)
        start = max(start - block.count, 0)
    return entries


@given(logs, st.integers(0, 61))
def test_a_compacted_log_is_expanded_from_any_index_on(entries: list[bytes], start: int) -> None:
    assert entries[start:] == expanded(compact(entries), start)


@given(st.lists(texts, max_size=40))
def test_a_compacted_answer_is_expanded_unchanged(pieces: list[str]) -> None:
    entries = log_of(pieces)
    assert entries == expanded(compact(entries))


def test_a_long_log_becomes_several_blocks_of_one_read_each() -> None:
    entries = log_of([f"{number} " for number in range(7_000)] + ["a long piece " * 300] * 80)
    blocks = compact(entries)

    assert len(entries) == sum(block.count for block in blocks)
    assert all(block.count <= BLOCK_ENTRIES for block in blocks)
    for start in (0, 1, 1_999, 2_000, 2_001, 6_999, len(entries) - 1, len(entries)):
        assert entries[start:] == expanded(blocks, start)
    sizes = [sum(map(len, expand(block.data))) for block in blocks if block.count > 1]
    assert len(sizes) > 3
    assert max(sizes) <= BLOCK_BYTES


def test_an_entry_may_be_larger_than_a_block() -> None:
    entries = [b"a", b"b" * (2 * BLOCK_BYTES), b"c"]
    assert [1, 1, 1] == [block.count for block in compact(entries)]
    assert entries == expanded(compact(entries))


def test_an_empty_log_has_no_blocks() -> None:
    assert [] == compact([])


@pytest.mark.parametrize("tokens", [50, 500, 2_000, 10_000])
def test_a_compacted_answer_takes_little_more_room_than_its_text(tokens: int) -> None:
    # Hash digits are about as hard to compress as a model's text. Consecutive numbers compress
    # better.
    pieces = [f"{hashlib.sha256(b'%d' % number).hexdigest()[:5]} " for number in range(tokens)]
    text = sum(map(len, pieces))
    size = sum(len(block.data) for block in compact(log_of(pieces)))
    assert size < 1.4 * text + 700


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"garbage",
        zlib.compress(b"\xc0"),
        zlib.compress(b"\x93\x02\x90\x90"),
        zlib.compress(b"\x93\x01\x90\x91\x90"),
        zlib.compress(b"\x93\x01\x90\x91\x91\x00"),
        compact([b"entry"])[0].data[:-1],
        compact([b"entry"])[0].data[:-6] + b"wrong!",
    ],
)
def test_bytes_that_are_not_a_block_raise_an_error(data: bytes) -> None:
    with pytest.raises(Undecodable):
        expand(data)


def test_the_dictionary_is_part_of_the_format() -> None:
    """A log cannot be read with another dictionary.

    When the dictionary changes, change `VERSION`.
    """
    digest = hashlib.sha256(compaction_module._DICTIONARY).hexdigest()
    assert "949d59407ee04e97febab6b38a25cef31d66bdfadb29f26f37c7ad44becbb718" == digest
