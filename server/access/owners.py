"""The owners of responses: the owner string stored with each response, and the access rule.

    public            every caller, if the server does not authenticate
    acme/             the services of the tenant acme, which present its API keys
    acme/anna%40x     the end user anna@x of that tenant, who presents a token

A tenant's name has only letters, digits and `_ . -`; a subject is percent-encoded into the same
characters and `%`. An external name therefore cannot produce an owner with a second `/`, with the
`|` that separates a lane from an owner in Redis key names, or with the leading `~` of a queue's
own counters. Two owners never share a string, and no owner equals a reserved string.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

PUBLIC: Final = "public"
MAX_SUBJECT: Final = 256
TENANT_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z"
# The viewer of a tenant's administrator ends in `/*`. No owner contains a `*`, so the two never
# collide.
_ALL: Final = "/*"
_TENANT = re.compile(TENANT_PATTERN, re.ASCII)


def is_tenant(name: object) -> bool:
    """Returns True if the name is a valid tenant name."""
    return isinstance(name, str) and _TENANT.match(name) is not None


def is_subject(name: object) -> bool:
    """Returns True if the name is a valid end user name: 1 to 256 bytes in UTF-8."""
    if not isinstance(name, str) or not name:
        return False
    try:
        return len(name.encode()) <= MAX_SUBJECT
    except UnicodeEncodeError:  # the name contains a lone surrogate
        return False


def owner_of(tenant: str, subject: str | None) -> str:
    """Returns the owner string of an end user, or of a service if `subject` is None.

    Raises: ValueError for a name that `is_tenant` or `is_subject` rejects.
    """
    if not is_tenant(tenant) or (subject is not None and not is_subject(subject)):
        raise ValueError(
            "the tenant must be 1 to 64 letters, digits and _ . -, "
            f"and the subject must be 1 to {MAX_SUBJECT} bytes of UTF-8"
        )
    return f"{tenant}/{quote(subject or '', safe='').replace('~', '%7E')}"


def all_of(tenant: str) -> str:
    """Returns the viewer string that may see the responses of all owners of a tenant."""
    return tenant + _ALL


def sees(viewer: str, owner: str) -> bool:
    """Returns True if a viewer may see this owner's responses.

    A viewer is an owner string or a result of `all_of`.
    """
    if viewer.endswith(_ALL):
        return owner.startswith(viewer[:-1])
    return viewer == owner
