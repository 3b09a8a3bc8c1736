"""Whose a response is, as one word that is written beside it in Redis, and who sees which words.

    public            everybody, where nobody has to say who they are
    acme/             the services of the tenant acme, which show its API keys
    acme/anna%40x     the end user anna@x of that tenant, who shows a token

A tenant has only letters, digits and `_ . -`, and a subject is written in them with `%`. So no name
from outside can make a word with a second `/`, with the `|` that parts a lane from an owner in the
names of Redis, or one that begins with the `~` of a queue's own numbers: the words of two owners
never meet, and none is a word of ours.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

PUBLIC: Final = "public"
MAX_SUBJECT: Final = 256
TENANT_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z"
# No owner has a `*`, so nobody can be called what a tenant's administrator looks with.
_ALL: Final = "/*"
_TENANT = re.compile(TENANT_PATTERN, re.ASCII)


def is_tenant(name: object) -> bool:
    """Whether this can be the name of a tenant."""
    return isinstance(name, str) and _TENANT.match(name) is not None


def is_subject(name: object) -> bool:
    """Whether this can be the name of an end user: 1 to 256 bytes of text."""
    if not isinstance(name, str) or not name:
        return False
    try:
        return len(name.encode()) <= MAX_SUBJECT
    except UnicodeEncodeError:  # a lone surrogate
        return False


def owner_of(tenant: str, subject: str | None) -> str:
    """The owner of what an end user asks, or a service, which has no subject.

    Raises: ValueError for names that `is_tenant` and `is_subject` refuse.
    """
    if not is_tenant(tenant) or (subject is not None and not is_subject(subject)):
        raise ValueError("not the names of an owner")
    return f"{tenant}/{quote(subject or '', safe='').replace('~', '%7E')}"


def all_of(tenant: str) -> str:
    """What sees all owners of a tenant."""
    return tenant + _ALL


def sees(viewer: str, owner: str) -> bool:
    """Whether a viewer, an owner or what `all_of` gave, may see what is this owner's."""
    if viewer.endswith(_ALL):
        return owner.startswith(viewer[:-1])
    return viewer == owner
