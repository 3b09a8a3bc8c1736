"""Checks the compaction items of a request, and leaves out the items that a summary replaces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobs.config.models import CHAT, RESPONSES
from jobs.errors import EncryptionKeyMissing, Undecodable
from jobs.summary import COMPACTION, TRIGGER, is_own, leading_rules, opened, replaced_before

from .api.context import packed_bytes
from .api.problem import Problem, invalid
from .api.results import place_of

if TYPE_CHECKING:
    from jobs.cipher import Cipher
    from jobs.config.models import Catalog

    from .api.context import Context
    from .api.items import Item as InputItem

Item = dict[str, Any]


def check(
    context: Context,
    items: list[Item],
    given: list[InputItem],
    owner: str,
    cipher: Cipher | None,
    *,
    foreign: bool,
) -> None:
    """Raises Problem for a compaction item that the request's model cannot read.

    `given` is the input as the client sent it. `foreign` is True if compaction items of providers
    are allowed. In earlier turns they are always allowed, because the worker leaves them out if the
    model cannot read them.
    """
    for before, place in ((context.items, context.source), (items, "input")):
        for item in before:
            if item.get("type") != COMPACTION:
                continue
            why = _unreadable(item, owner, cipher, foreign=foreign or before is not items)
            if why is not None:
                own = f"{place_of(item, given)}.encrypted_content"
                raise _refused(own if before is items else place, why)
    if [one for one in items if one.get("type") == TRIGGER] and not (context.items or items[1:]):
        message = f"'input' must contain at least one item before the '{TRIGGER}'."
        raise invalid("input", message)


def _unreadable(item: Item, owner: str, cipher: Cipher | None, *, foreign: bool) -> str | None:
    """Returns the reason why a compaction item cannot be read, or None if it can."""
    if not is_own(item):
        return None if foreign else "was created by a provider, so this model cannot read it"
    try:
        opened(item, owner, cipher)
    except EncryptionKeyMissing:
        return "is encrypted with a key that this server lacks"
    except Undecodable:
        return "was altered, or belongs to another user"
    return None


def allows_foreign(catalog: Catalog, model: str) -> bool:
    """Returns True if requests to a model may contain the compaction items of providers."""
    return RESPONSES in (catalog.apis(model) or {CHAT}) or catalog.drops(model)


def without_replaced(context: Context, owner: str, cipher: Cipher | None) -> Context:
    """Returns the context without the items that its last summary replaces.

    Without these items, a conversation that is compacted again and again stays within the limits of
    a context.
    """
    try:
        start = replaced_before(context.items, owner, cipher)
    except Undecodable:
        return context  # `check` refuses it
    if not start:
        return context
    rules = len(leading_rules(context.items[:start]))
    if rules == start:
        return context
    kept = context.items[:rules] + context.items[start:]
    return context.without(rules, start, sum(map(packed_bytes, kept)))


def _refused(place: str, why: str) -> Problem:
    return Problem(
        400,
        "invalid_encrypted_content",
        f"A compaction item in '{place.partition('[')[0]}' {why}. Send the items that it replaces.",
        param=place,
    )
