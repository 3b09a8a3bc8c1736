"""Tests that a value decrypts unchanged, but only in its own place and with a configured key."""

from __future__ import annotations

import os
import re
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.cipher import PLAIN, Cipher, InvalidEncryptionKeys
from jobs.ciphertext import BLOCK, ENTRY, JOB, MAGIC
from jobs.errors import EncryptionKeyMissing, Undecodable
from jobs.ids import new_response_id
from jobs.log.codec import encode_event, encode_job
from jobs.log.compaction import compact
from tests.jobs.factories import a_job, opening

A, B = new_response_id(0), new_response_id(0)
KINDS = st.sampled_from([JOB, ENTRY, BLOCK])


def a_key() -> str:
    return b64encode(os.urandom(32)).decode()


OLD, NEW = a_key(), a_key()
CIPHER = Cipher(OLD)


@given(st.lists(st.binary(max_size=200), max_size=5), st.integers(0, 2**40), KINDS)
def test_encrypted_values_are_decrypted_unchanged(
    pieces: list[bytes], first: int, kind: bytes
) -> None:
    kept = CIPHER.encrypted(A, first, pieces, kind)
    assert all(one.startswith(MAGIC) for one in kept)
    assert pieces == Cipher(OLD).decrypted(A, first, kept, kind)


def test_the_same_value_in_the_same_place_has_the_same_ciphertext_in_every_process() -> None:
    assert CIPHER.encrypted(A, 7, [b"a", b"a"]) == Cipher(OLD).encrypted(A, 7, [b"a", b"a"])


def test_no_two_values_share_a_nonce() -> None:
    pieces = [*CIPHER.encrypted(A, 0, [b"a"] * 1000), *CIPHER.encrypted(A, 0, [b"b"] * 1000)]
    assert 2000 == len({piece[5:17] for piece in pieces})


@given(st.binary(min_size=1, max_size=40), st.data())
def test_altered_ciphertext_is_rejected(piece: bytes, data: st.DataObject) -> None:
    [kept] = CIPHER.encrypted(A, 0, [piece])
    at = data.draw(st.integers(0, len(kept) - 1))
    other = bytes([kept[at] ^ data.draw(st.integers(1, 255))])
    with pytest.raises(Undecodable):
        CIPHER.decrypted(A, 0, [kept[:at] + other + kept[at + 1 :]])
    with pytest.raises(Undecodable):
        CIPHER.decrypted(A, 0, [kept[:at]])


def test_ciphertext_moved_to_another_place_is_rejected() -> None:
    kept = CIPHER.encrypted(A, 3, [b"piece"])
    assert [b"piece"] == CIPHER.decrypted(A, 3, kept)
    for response, index, kind in ((B, 3, ENTRY), (A, 4, ENTRY), (A, 3, BLOCK), (A, 3, JOB)):
        with pytest.raises(Undecodable, match="altered, or belongs"):
            CIPHER.decrypted(response, index, kept, kind)


def test_the_first_key_encrypts_and_every_key_decrypts() -> None:
    both = Cipher(f"{NEW}\n{OLD}\n")
    assert (*Cipher(NEW).ids, *CIPHER.ids) == both.ids
    assert [b"a"] == both.decrypted(A, 0, CIPHER.encrypted(A, 0, [b"a"]))
    assert [b"a"] == Cipher(NEW).decrypted(A, 0, both.encrypted(A, 0, [b"a"]))
    with pytest.raises(EncryptionKeyMissing) as missing:
        CIPHER.decrypted(A, 0, both.encrypted(A, 0, [b"a"]))
    assert both.ids[0] == missing.value.key_id


def test_the_key_plain_allows_switching_encryption_on_and_off() -> None:
    switching_on, switching_off = Cipher(f"{OLD} {PLAIN}"), Cipher(f"{PLAIN} {OLD}")
    assert [b"a"] == switching_on.decrypted(A, 0, [b"a"])
    assert [b"a"] == switching_off.encrypted(A, 0, [b"a"])
    assert [b"a"] == switching_off.decrypted(A, 0, switching_on.encrypted(A, 0, [b"a"]))
    with pytest.raises(EncryptionKeyMissing, match="has no key plain"):
        CIPHER.decrypted(A, 0, [b"a"])


def test_the_representation_shows_no_key() -> None:
    shown = str(Cipher(f"{NEW} {OLD} {PLAIN}"))
    assert "encrypted with the key" in shown
    assert re.search("; also decrypted: [0-9a-f]{8}, plain$", shown)
    assert "not encrypted" == str(Cipher(PLAIN))
    for key in (OLD, NEW):
        assert key[:8] not in shown + repr(CIPHER)


@pytest.mark.parametrize(
    ("listed", "why"),
    [
        ("", "must contain 1 to 10 keys, not 0"),
        (" ".join(a_key() for _ in range(11)), "not 11"),
        (f"{OLD} {OLD}", "twice"),
        ("plain plain", "twice"),
        (f"{OLD} c2hvcnQ=", "key 2 is not the base64 encoding of 32 bytes"),
        ("secret!", "key 1 is not"),
    ],
    # Random keys would give the tests different names in each process, but pytest-xdist needs the
    # same names in all processes.
    ids=["none", "eleven", "one twice", "plain twice", "a short one", "no base64"],
)
def test_an_invalid_list_of_keys_is_rejected_without_being_quoted(listed: str, why: str) -> None:
    with pytest.raises(InvalidEncryptionKeys, match=why) as refused:
        Cipher(listed)
    for word in listed.split():
        assert word == PLAIN or word not in str(refused.value)


def test_a_fingerprint_is_stable_and_depends_on_the_key() -> None:
    old, both = CIPHER.fingerprints("print"), Cipher(f"{NEW} {OLD} {PLAIN}").fingerprints("print")
    assert "print" not in old
    assert [Cipher(NEW).fingerprints("print"), old, "print"] == both.split(",")
    assert old != CIPHER.fingerprints("another")


def test_no_unencrypted_value_starts_like_ciphertext() -> None:
    job = a_job()
    entries = list(map(encode_event, opening(job)))
    for kept in (encode_job(job), *entries, compact(entries)[0].data):
        assert not kept.startswith(MAGIC)
