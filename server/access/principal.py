"""Who somebody is and what they may do. Pure: where keys and tokens are kept, `access` knows.

what is shown     who that is                          sees
nothing, in the   everybody is one owner               all there is
open mode
an API key        a service of its tenant              what services of the tenant asked;
with `admin`, all of the tenant's
a token           an end user, the `sub` of a tenant   what that end user asked
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from server.api.encoding import BEARER
from server.api.problem import Problem
from server.api.request import ResponseCancel, ResponseCreate, Resume

from .owners import PUBLIC, all_of, owner_of, sees

CREATE: Final = "create"
READ: Final = "read"
CANCEL: Final = "cancel"
ADMIN: Final = "admin"
SCOPES: Final = (CREATE, READ, CANCEL, ADMIN)
# What a token may do that does not say; `admin` is never a token's.
OF_A_TOKEN: Final = frozenset({CREATE, READ, CANCEL})

ANYTHING: Final = ""  # a scope that everybody has who has come in
SOCKET: Final = "/v1/responses"
# The scope that each route of the API needs. One that is missing here needs `admin`.
OF_ROUTES: Final[Mapping[tuple[str, str], str]] = {
    ("GET", SOCKET): ANYTHING,  # the socket: each of its messages needs its own
    ("POST", "/v1/responses"): CREATE,
    ("POST", "/v1/chat/completions"): CREATE,
    ("GET", "/v1/responses/{id}"): READ,
    ("DELETE", "/v1/responses/{id}"): CANCEL,
    ("POST", "/v1/responses/{id}/cancel"): CANCEL,
    ("GET", "/v1/responses/{id}/input_items"): READ,
    ("GET", "/v1/models"): ANYTHING,
    ("GET", "/v1/models/{id}"): ANYTHING,
}
OF_MESSAGES: Final[Mapping[type, str]] = {
    ResponseCreate: CREATE,
    ResponseCancel: CANCEL,
    Resume: READ,
}
MAX_CREDENTIAL: Final = 4096


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who has come in.

    `models` and `prompts` are those that may be used, None for all. `expires_at` is in Unix
    seconds, None for no end. `key_id` names the API key that was shown. `address` is the client's;
    it is personal data, and neither logged nor stored.
    """

    tenant: str | None
    subject: str | None = None
    scopes: frozenset[str] = frozenset(SCOPES)
    models: frozenset[str] | None = None
    prompts: frozenset[str] | None = None
    expires_at: float | None = None
    key_id: str | None = None
    address: str = field(default="", repr=False)

    @property
    def owner(self) -> str:
        """The owner of what they ask."""
        return PUBLIC if self.tenant is None else owner_of(self.tenant, self.subject)

    def account(self, digest: Callable[[str], str]) -> str:
        """What the limits of end users are counted by: the owner of an end user, else the address.

        `digest` makes the address unreadable. A service with `admin` acts for its whole tenant, and
        has none. No owner has an `@`, so the accounts of a subject and of an address never meet.
        """
        if self.subject is not None:
            return self.owner
        if self.tenant is not None and ADMIN in self.scopes:
            return ""
        return f"{self.tenant or PUBLIC}/@{digest(self.address)}"

    @property
    def viewer(self) -> str:
        """What they look at responses with, for `owners.sees`."""
        if self.tenant is None or self.subject is not None or ADMIN not in self.scopes:
            return self.owner
        return all_of(self.tenant)

    def sees(self, owner: str) -> bool:
        """Whether what is this owner's can be seen."""
        return sees(self.viewer, owner)

    def ended(self, now: float) -> bool:
        """Whether key or token has expired; `now` in Unix seconds."""
        return self.expires_at is not None and now >= self.expires_at

    def check(self, scope: str) -> None:
        """Raises Problem where the scope is missing, whatever the request is about."""
        if scope not in self.scopes and scope != ANYTHING:
            raise Problem(
                403,
                "insufficient_scope",
                f"This key or token lacks the scope '{scope}'. Use one that has it.",
            )

    def may_use_model(self, name: str) -> bool:
        """Whether requests may name this model."""
        return self.models is None or name in self.models

    def may_use_prompt(self, id_: str) -> bool:
        """Whether requests may name this prompt template."""
        return self.prompts is None or id_ in self.prompts


EVERYBODY: Final = Principal(None)


class Headers(Protocol):
    """The part of a request's headers that is needed here."""

    def get(self, name: str) -> str | None: ...

    def getall(self, name: str, default: list[str]) -> Iterable[str]: ...


def from_header(headers: Mapping[str, str] | Headers) -> str | None:
    """The credential of the `Authorization` header, or None where there is no such header.

    Raises: Problem for a header that is of another scheme, or empty.
    """
    written = headers.get("Authorization")
    if written is None:
        return None
    scheme, _, credential = written.strip().partition(" ")
    if scheme.lower() != "bearer" or not credential.strip():
        raise refused()
    return credential.strip()


def from_offers(offers: Iterable[str]) -> str | None:
    """The token that a browser offers as a subprotocol, `bearer.<token>`: the first one."""
    for offer in offers:
        for name in offer.split(","):
            if name.strip().startswith(BEARER):
                return name.strip().removeprefix(BEARER)
    return None


def missing() -> Problem:
    """Nothing was shown."""
    return Problem(
        401,
        "authentication_required",
        "Say who you are: 'Authorization: Bearer' with an API key or a token; on a WebSocket also "
        "by a first message 'holdline:auth'.",
    )


def refused() -> Problem:
    """What was shown does not count: the same words whatever is wrong with it."""
    return Problem(
        401,
        "invalid_token",
        "This key or token is malformed, expired, revoked or not ours. Get another one.",
    )


def other_owner() -> Problem:
    """A fresh token belongs to somebody else than the one whose socket this is."""
    return Problem(
        403,
        "token_of_another",
        "This token is of another subject or tenant than the socket. Open a socket of its own.",
        param="token",
    )


def names(value: Any) -> frozenset[str] | None:
    """The names in a claim or record: a list of strings, or one string with spaces; None for none.

    Raises: ValueError.
    """
    if value is None:
        return None
    if isinstance(value, str):
        return frozenset(value.split())
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return frozenset(value)
    raise ValueError("not a list of names")
