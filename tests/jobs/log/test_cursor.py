"""Tests that a client holds a prefix of the log even if notifications are lost or reordered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.log.cursor import Cursor, Relation

# The index of a notification's first entry, and the number of its entries.
Notification = tuple[int, int]


class Client:
    """A client that follows a log with a `Cursor` and no other logic."""

    def __init__(self, log: list[bytes], after: int) -> None:
        self._log = log
        self._cursor = Cursor(after)
        self.has: list[tuple[int, bytes]] = []

    def notify(self, notification: Notification) -> None:
        first, count = notification
        relation = self._cursor.relation(first, count)
        if relation is Relation.FITS:
            self.has += self._cursor.take(first, self._log[first : first + count])
        elif relation is Relation.GAP:
            self.read()

    def read(self, most: int | None = None) -> None:
        start = self._cursor.next
        end = None if most is None else start + most
        self.has += self._cursor.take(start, self._log[start:end])


@given(st.data())
def test_a_client_has_a_prefix_at_any_time_and_the_whole_log_after_a_last_read(
    data: st.DataObject,
) -> None:
    log: list[bytes] = []
    started_at = data.draw(st.integers(0, 5), label="first number that the client lacks")
    client: Client | None = None
    on_the_way: list[Notification] = []
    total = 0
    for _ in range(data.draw(st.integers(0, 30), label="steps")):
        step = data.draw(
            st.sampled_from(["append", "notify", "notify again", "lose", "read", "join"])
        )
        if step == "append":
            count = data.draw(st.integers(1, 4))
            log += [b"%d" % number for number in range(total, total + count)]
            on_the_way.append((total, count))
            total += count
        elif step == "join" and client is None and started_at <= total:
            client = Client(log, started_at)
            client.read()
        elif step == "read" and client is not None:
            client.read(data.draw(st.none() | st.integers(1, 3)))
        elif on_the_way and step in ("notify", "notify again", "lose"):
            # Any pending notification may be delivered next, so some are delivered out of order.
            place = data.draw(st.integers(0, len(on_the_way) - 1))
            if step != "lose" and client is not None:
                client.notify(on_the_way[place])
            if step != "notify again":
                del on_the_way[place]
        if client is not None:
            whole = list(enumerate(log))[started_at:]
            assert whole[: len(client.has)] == client.has

    if client is not None:
        client.read()
        assert list(enumerate(log))[started_at:] == client.has


@pytest.mark.parametrize(
    ("first", "count", "relation"),
    [
        (0, 5, Relation.SEEN),
        (4, 1, Relation.SEEN),
        (5, 0, Relation.SEEN),
        (5, 1, Relation.FITS),
        (0, 6, Relation.FITS),
        (4, 3, Relation.FITS),
        (6, 1, Relation.GAP),
        (9, 9, Relation.GAP),
    ],
)
def test_a_notification_is_a_repeat_or_fits_or_reveals_a_gap(
    first: int, count: int, relation: Relation
) -> None:
    assert relation is Cursor(5).relation(first, count)


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
def test_entries_pass_only_if_they_fit_without_trimming(after: int, first: int, count: int) -> None:
    cursor = Cursor(after)
    whole = cursor.relation(first, count) is Relation.FITS and first == after

    assert whole is cursor.passes(first, count)
    assert (after + count if whole else after) == cursor.next


def test_entries_that_would_leave_a_gap_are_rejected() -> None:
    cursor = Cursor(5)

    with pytest.raises(ValueError, match="entries 5 to 5 are missing"):
        cursor.take(6, [b"six"])

    assert 5 == cursor.next


def test_only_entries_that_the_client_lacks_are_taken() -> None:
    cursor = Cursor(2)

    assert [(2, b"two"), (3, b"three")] == cursor.take(0, [b"zero", b"one", b"two", b"three"])
    assert [] == cursor.take(0, [b"zero", b"one", b"two", b"three"])
