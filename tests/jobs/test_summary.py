"""Tests that a summary can be opened only unchanged, by its owner and with its key."""

from __future__ import annotations

from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode

import pytest

from jobs.cipher import Cipher
from jobs.errors import EncryptionKeyMissing, Undecodable
from jobs.ids import item_id, new_response_id
from jobs.summary import COMPACTION, Item, Summary, known_first, opened, sealed, shown

KEYS = [b64encode(bytes([number]) * 32).decode() for number in (1, 2)]
SUMMARY = Summary("The sky is blue.", replaces=True)


def cipher(*words: str) -> Cipher | None:
    return Cipher(" ".join(words)) if words else None


def item(summary: Summary = SUMMARY, *words: str) -> Item:
    return {"type": COMPACTION, "encrypted_content": sealed(summary, "me", cipher(*words))}


@pytest.mark.parametrize("words", [(), (KEYS[0],), ("plain", KEYS[0])])
def test_a_summary_is_opened_only_unchanged_and_by_its_owner(words: tuple[str, ...]) -> None:
    whole = item(SUMMARY, *words)
    assert SUMMARY == opened(whole, "me", cipher(*words))
    with pytest.raises(Undecodable):
        opened(whole, "you", cipher(*words))
    prefix, _, encoded = whole["encrypted_content"].partition(".")
    data = urlsafe_b64decode(encoded)
    for index in range(len(data)):
        changed = data[:index] + bytes([data[index] ^ 1]) + data[index + 1 :]
        broken = {**whole, "encrypted_content": f"{prefix}.{urlsafe_b64encode(changed).decode()}"}
        with pytest.raises((Undecodable, EncryptionKeyMissing)):
            opened(broken, "me", cipher(*words))


def test_a_summary_needs_the_key_with_which_it_is_encrypted() -> None:
    whole = item(SUMMARY, KEYS[0])
    assert SUMMARY == opened(whole, "me", cipher(KEYS[1], KEYS[0]))
    for words in ((KEYS[1],), ()):
        with pytest.raises(EncryptionKeyMissing):
            opened(whole, "me", cipher(*words))
    with pytest.raises(EncryptionKeyMissing):
        opened(item(), "me", cipher(KEYS[0]))


def test_a_model_gets_the_rules_and_the_items_after_the_last_replacing_summary() -> None:
    rule, old, new = ({"role": role, "content": role} for role in ("system", "user", "assistant"))
    trigger = {"type": "compaction_trigger"}
    kept = item(Summary("Kept.", replaces=False))
    found = shown([rule, old, kept, item(), trigger, old, kept, new], "me", None)
    assert [rule, "summary", old, "summary", new] == [
        "summary" if "summary" in str(one["content"]) else one for one in found
    ]
    assert [old] == shown([old, trigger], "me", None)


def test_the_items_that_a_summary_does_not_contain_follow_it_in_a_conversation() -> None:
    first, summed, other = (new_response_id(0) for _ in range(3))
    summary = Summary("S.", True, "conv_1", 3)

    def entry(index: int, of: str, **fields: object) -> tuple[int, Item]:
        return index, {"type": "message", "id": item_id("msg", of, 0, index), **fields}

    def compacted(index: int, of: str, summary: Summary) -> tuple[int, Item]:
        return index, {**item(summary), "id": item_id("cmp", of, 0, index)}

    known = [entry(0, first), entry(2, first)]  # the item 1 was deleted
    late = [entry(3, other), entry(5, other)]  # 3 came just before the input of the response
    own, end, rest = entry(4, summed), compacted(7, summed, summary), [entry(8, summed)]
    too = compacted(6, other, Summary("T.", True, "conv_1", 3))
    log = [*known, late[0], own, late[1], too, end, *rest]
    assert [*known, own, too, end, *late, *rest] == known_first(log, "conv_1", "me", None)
    assert log == known_first(log, "conv_2", "me", None)
    assert log[:5] == known_first(log[:5], "conv_1", "me", None)
    complete = [*known, own, end, *rest]
    assert complete == known_first(complete, "conv_1", "me", None)
    with pytest.raises(Undecodable):
        known_first(log, "conv_1", "you", None)
    # A client may have chosen the id of an item.
    chosen = (5, {**late[1][1], "id": "mcpr_1"})
    assert [*known, own, end, chosen] == known_first(
        [*known, own, chosen, end], "conv_1", "me", None
    )
    added = [*known, own, (7, {**end[1], "id": "cmp_1"})]
    assert added == known_first(added, "conv_1", "me", None)


@pytest.mark.parametrize("words", [(), (KEYS[0],)])
@pytest.mark.parametrize("more", ["A", "=", " ", "\n", "-", "é", "AAAA"])
def test_a_summary_with_more_text_is_altered(words: tuple[str, ...], more: str) -> None:
    whole = item(SUMMARY, *words)
    for place in (4, 20, len(whole["encrypted_content"])):
        text = whole["encrypted_content"]
        with pytest.raises((Undecodable, EncryptionKeyMissing)):
            broken = text[:place] + more + text[place:]
            opened({**whole, "encrypted_content": broken}, "me", cipher(*words))
