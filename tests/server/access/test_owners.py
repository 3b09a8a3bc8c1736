"""Tests that no external owner name can be confused with another name or a reserved one."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.log.codec import decode_job
from jobs.names import Partition
from jobs.queue import Queue
from jobs.redis.pipe import Pipe
from server.access.owners import PUBLIC, all_of, is_subject, is_tenant, owner_of, sees
from tests.jobs.factories import NAMES, SETTINGS, submitted

TENANTS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", fullmatch=True)
ANY = st.text(max_size=80)
SUBJECTS = ANY.filter(is_subject)
WHO = st.tuples(TENANTS, st.none() | SUBJECTS)


@given(WHO, WHO)
def test_different_principals_have_different_owners(
    one: tuple[str, str | None], other: tuple[str, str | None]
) -> None:
    assert (one == other) == (owner_of(*one) == owner_of(*other))


@given(WHO)
def test_an_owner_never_equals_a_reserved_name(who: tuple[str, str | None]) -> None:
    owner = owner_of(*who)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9_.%-]*", owner)
    assert owner != PUBLIC
    assert not set("~|*{}: \n\0").intersection(owner)
    # A lane's field is `lane|owner`. It is split at the last `|`, so a model's name may contain
    # one.
    assert ["d:a|b", owner] == f"d:a|b|{owner}".rsplit("|", 1)
    assert Partition(0).waiting_prefix + owner != Partition(0).waiting_prefix + PUBLIC


@given(WHO, WHO)
def test_users_see_their_own_responses_and_administrators_all_of_their_tenant(
    one: tuple[str, str | None], other: tuple[str, str | None]
) -> None:
    assert sees(owner_of(*one), owner_of(*other)) == (one == other)
    assert sees(all_of(one[0]), owner_of(*other)) == (one[0] == other[0])
    assert not sees(owner_of(*one), PUBLIC)
    assert not sees(all_of(one[0]), PUBLIC)


@given(ANY, ANY)
def test_an_invalid_name_makes_no_owner(tenant: str, subject: str) -> None:
    if is_tenant(tenant) and is_subject(subject):
        assert owner_of(tenant, subject)
    else:
        with pytest.raises(ValueError, match="the tenant must be"):
            owner_of(tenant, subject)


@pytest.mark.parametrize(
    "tenant", ["", "a/b", "a|b", "~last", "a\n", "ä", "*", "a" * 65, "-a", None, 7, ["a"]]
)
def test_an_ambiguous_tenant_name_is_refused(tenant: object) -> None:
    assert not is_tenant(tenant)


@pytest.mark.parametrize("subject", ["", "\ud800", "é" * 129, None, 7])
def test_a_subject_that_cannot_be_encoded_is_refused(subject: object) -> None:
    assert not is_subject(subject)


async def test_all_users_of_a_tenant_share_one_account_and_one_limit(pipe: Pipe) -> None:
    queue = Queue(pipe, SETTINGS)
    for owner in ("acme/anna", "acme/bert", "acme/", "acme/anna", "other/anna", "acmes/anna"):
        await submitted(queue, owner)
    claimed = [decode_job(grant.job).owner for grant in await queue.leases.claim(0, "token", 3)]
    assert {"acme", "other", "acmes"} == {owner.split("/")[0] for owner in claimed}
    assert 3 == await pipe.call("LLEN", NAMES.waiting_prefix + "acme")
