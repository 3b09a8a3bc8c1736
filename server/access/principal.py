"""Principals: the identity of a caller, and its permissions.

    credential          principal                           sees the responses of
    none (open mode)    all callers are one owner           everyone
    an API key          a service of its tenant             the tenant's services;
                                                            with `admin`, the whole tenant
    a token             an end user: the `sub` in a tenant  that end user

The scope `operator` shows the state of the whole service, of every tenant, in the console.

This module does no I/O: other modules store keys and verify tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from server.api.client_messages import (
    Console,
    FollowConversation,
    MarkRead,
    ResponseCancel,
    ResponseCreate,
    ResponseSteer,
    Resume,
    UnfollowConversation,
)
from server.api.encoding import BEARER
from server.api.problem import Problem

from .owners import PUBLIC, all_of, owner_of, sees

CREATE: Final = "create"
READ: Final = "read"
CANCEL: Final = "cancel"
ADMIN: Final = "admin"
OPERATOR: Final = "operator"
CONTENTS: Final = "contents"
SCOPES: Final = (CREATE, READ, CANCEL, ADMIN, OPERATOR, CONTENTS)
# The scopes of a token without a `scope` claim. No token ever has `admin`.
OF_A_TOKEN: Final = frozenset({CREATE, READ, CANCEL})
# The further scopes of a token whose signing key the operator has marked with `operator`.
OF_AN_OPERATOR: Final = frozenset({OPERATOR, CONTENTS})

ANYTHING: Final = ""  # no scope: any authenticated caller may do this
# The paths at which a GET request opens a WebSocket.
SOCKETS: Final = frozenset({"/v1/responses", "/v1/ag-ui"})
# The scope that each route of the API requires. A route that is not listed here requires `admin`.
OF_ROUTES: Final[Mapping[tuple[str, str], str]] = {
    # Any caller may open a WebSocket; each message on it requires a scope.
    **{("GET", path): ANYTHING for path in SOCKETS},
    ("POST", "/v1/responses"): CREATE,
    ("POST", "/v1/chat/completions"): CREATE,
    ("POST", "/v1/ag-ui"): CREATE,
    ("GET", "/v1/ag-ui/{id}/stream"): READ,
    ("POST", "/v1/ai-sdk"): CREATE,
    ("GET", "/v1/ai-sdk/{id}/stream"): READ,
    ("GET", "/v1/responses/{id}"): READ,
    ("DELETE", "/v1/responses/{id}"): CANCEL,
    ("POST", "/v1/responses/{id}/cancel"): CANCEL,
    ("GET", "/v1/responses/{id}/input_items"): READ,
    # Everyone who may read an answer may judge it.
    ("GET", "/v1/responses/{id}/feedback"): READ,
    ("POST", "/v1/responses/{id}/feedback"): READ,
    ("POST", "/v1/responses/compact"): CREATE,
    ("POST", "/v1/responses/input_tokens"): CREATE,
    ("GET", "/v1/conversations"): READ,
    ("POST", "/v1/conversations"): CREATE,
    ("GET", "/v1/conversations/{id}"): READ,
    ("POST", "/v1/conversations/{id}"): CREATE,
    ("DELETE", "/v1/conversations/{id}"): CANCEL,
    ("GET", "/v1/conversations/{id}/events"): READ,
    ("GET", "/v1/conversations/{id}/items"): READ,
    ("POST", "/v1/conversations/{id}/items"): CREATE,
    ("GET", "/v1/conversations/{id}/items/{item_id}"): READ,
    ("DELETE", "/v1/conversations/{id}/items/{item_id}"): CANCEL,
    # A subscriber learns of the ends of its own responses.
    ("GET", "/v1/push/key"): READ,
    ("POST", "/v1/push/subscriptions"): READ,
    ("GET", "/v1/push/subscriptions"): READ,
    ("DELETE", "/v1/push/subscriptions/{id}"): READ,
    ("GET", "/v1/models"): ANYTHING,
    ("GET", "/v1/models/{id}"): ANYTHING,
    ("GET", "/v1/console"): OPERATOR,
    ("GET", "/v1/console/workers"): OPERATOR,
    ("GET", "/v1/console/responses/{id}"): OPERATOR,
    ("GET", "/v1/console/responses/{id}/contents"): CONTENTS,
}
OF_MESSAGES: Final[Mapping[type, str]] = {
    ResponseCreate: CREATE,
    ResponseSteer: CREATE,
    ResponseCancel: CANCEL,
    Resume: READ,
    FollowConversation: READ,
    UnfollowConversation: READ,
    MarkRead: READ,
    Console: OPERATOR,
}
MAX_CREDENTIAL: Final = 4096


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller.

    `models` and `prompts` are the names that the caller may use; None allows all. `expires_at` is
    in Unix seconds; None means no expiry. `key_id` names the API key that the caller presented.
    `address` is the client's address. The address is personal data, and is neither logged nor
    stored.
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
        """The owner of the caller's responses."""
        return PUBLIC if self.tenant is None else owner_of(self.tenant, self.subject)

    def account(self, digest: Callable[[str], str]) -> str:
        """Returns the name under which the limits of an end user are counted.

        For a token's subject the name is the owner. Otherwise it is derived from the client's
        address, which `digest` makes unreadable. For a service with `admin` the name is empty,
        because the service acts for its whole tenant and has no account. No owner contains an `@`,
        so the accounts of a subject and of an address never collide.
        """
        if self.subject is not None:
            return self.owner
        if self.tenant is not None and ADMIN in self.scopes:
            return ""
        return f"{self.tenant or PUBLIC}/@{digest(self.address)}"

    @property
    def viewer(self) -> str:
        """The caller's viewer string, which `owners.sees` accepts."""
        if self.tenant is None or self.subject is not None or ADMIN not in self.scopes:
            return self.owner
        return all_of(self.tenant)

    def sees(self, owner: str) -> bool:
        """Returns True if the caller may see this owner's responses."""
        return sees(self.viewer, owner)

    def ended(self, now: float) -> bool:
        """Returns True if the key or token has expired; `now` is in Unix seconds."""
        return self.expires_at is not None and now >= self.expires_at

    def check(self, scope: str) -> None:
        """Raises Problem if the caller lacks the scope."""
        if scope not in self.scopes and scope != ANYTHING:
            raise Problem(
                403,
                "insufficient_scope",
                f"This key or token does not have the scope '{scope}'. Use one that has it.",
            )

    def may_use_model(self, name: str) -> bool:
        """Returns True if the caller may use this model."""
        return self.models is None or name in self.models

    def may_use_prompt(self, id_: str) -> bool:
        """Returns True if the caller may use this prompt template."""
        return self.prompts is None or id_ in self.prompts


EVERYBODY: Final = Principal(None)


class Headers(Protocol):
    """The methods of request headers that `from_header` uses."""

    def get(self, name: str) -> str | None: ...

    def getall(self, name: str, default: list[str]) -> Iterable[str]: ...


def from_header(headers: Mapping[str, str] | Headers) -> str | None:
    """Returns the credential in the `Authorization` header, or None if there is no such header.

    Raises: Problem if the header is empty or its scheme is not Bearer.
    """
    written = headers.get("Authorization")
    if written is None:
        return None
    scheme, _, credential = written.strip().partition(" ")
    if scheme.lower() != "bearer" or not credential.strip():
        raise refused()
    return credential.strip()


def from_offers(offers: Iterable[str]) -> str | None:
    """Returns the first token that a browser offers as a subprotocol `bearer.<token>`, or None."""
    for offer in offers:
        for name in offer.split(","):
            if name.strip().startswith(BEARER):
                return name.strip().removeprefix(BEARER)
    return None


def missing() -> Problem:
    """Returns the error for a request without a credential."""
    return Problem(
        401,
        "authentication_required",
        "Authentication is required. Send an API key or a token as 'Authorization: Bearer', or, on "
        "a WebSocket, in a first message of type 'holdline:auth'.",
    )


def refused() -> Problem:
    """Returns the error for an invalid credential, which is the same for every kind of fault."""
    return Problem(
        401,
        "invalid_token",
        "This key or token is malformed, expired, revoked or unknown. Get a new one.",
    )


def other_owner() -> Problem:
    """Returns the error for a fresh token whose subject or tenant is not the socket's."""
    return Problem(
        403,
        "token_of_another",
        "This token has a different subject or tenant than the first token of this "
        "socket. Open a new socket with it.",
        param="token",
    )


def names(value: Any) -> frozenset[str] | None:
    """Returns the names in a token's claim: a list of strings, or one space-separated string.

    Returns None if the claim is absent (None). Raises: ValueError.
    """
    if value is None:
        return None
    if isinstance(value, str):
        return frozenset(value.split())
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return frozenset(value)
    raise ValueError("the claim must be a list of names")
