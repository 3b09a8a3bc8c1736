"""Validates push subscriptions, and builds their objects.

A page sends the result of `PushSubscription.toJSON()`, and an app sends an opaque device token.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from jobs.push_subscriptions import MAX_TTL_MS, Subscription
from runtime.public_address import is_public

from .problem import Problem, invalid

MAX_ENDPOINT: Final = 2048  # characters
MAX_DEVICE: Final = 4096  # characters; tokens of FCM and APNs have less than 300
AUTH_BYTES: Final = 16
HTTPS_PORT: Final = 443
# The entry of `HOLDLINE_PUSH_SERVICES` that allows every port of every public host, and the number
# that stands for its port.
EVERY_HOST: Final = "*"
ANY_PORT: Final = -1
_BROWSER: Final = frozenset({"endpoint", "expirationTime", "keys", "application_server_key"})
_KEYS: Final = frozenset({"p256dh", "auth"})


@dataclass(frozen=True, slots=True)
class PushConfig:
    """The settings for the subscriptions to pushes.

    `server_keys` are the public VAPID keys; the first one is for new subscriptions. `services` are
    the hosts of the allowed push services, with a port unless it is that of HTTPS; a host that
    begins with `*.` stands for its subdomains, and `*` for every public host and every port.
    """

    server_keys: tuple[bytes, ...]
    devices: bool
    services: tuple[str, ...]
    allow_private: bool


def subscription_in(body: dict[str, Any], config: PushConfig, now_ms: int) -> Subscription:
    """Returns the subscription in a body. Raises: Problem, which names the field."""
    if "device" in body:
        return _device(body, config, now_ms)
    if not config.server_keys:
        raise not_configured()
    _check_names(body, _BROWSER)
    keys = body.get("keys")
    if not isinstance(keys, dict):
        raise invalid("keys", "'keys' must be an object.")
    _check_names(keys, _KEYS, "keys.")
    auth = _bytes(keys.get("auth"), "keys.auth")
    if len(auth) != AUTH_BYTES:
        raise invalid("keys.auth", f"'keys.auth' must have {AUTH_BYTES} bytes, not {len(auth)}.")
    return Subscription(
        now_ms,
        expires_ms=_expiry(body.get("expirationTime"), now_ms),
        endpoint=_endpoint(body.get("endpoint"), config),
        p256dh=_point(keys.get("p256dh"), "keys.p256dh"),
        auth=auth,
        server_key=_server_key(body.get("application_server_key"), config),
    )


def ttl_of(subscription: Subscription, now_ms: int) -> int:
    """Returns the time in milliseconds for which a subscription is kept without being used."""
    if not subscription.expires_ms:
        return MAX_TTL_MS
    return min(MAX_TTL_MS, subscription.expires_ms - now_ms)


def shown(id_: str, subscription: Subscription) -> dict[str, Any]:
    """Returns the object of a subscription, which contains no address and no key."""
    return {
        "id": id_,
        "object": "holdline.push_subscription",
        "created_at": subscription.created_ms // 1000,
        "expires_at": subscription.expires_ms // 1000 or None,
        "type": "device" if subscription.device else "browser",
        "service": urlsplit(subscription.endpoint).hostname,
    }


def not_configured() -> Problem:
    """Returns the error of a server that sends no pushes of the requested kind."""
    return Problem(404, "push_not_configured", "This server does not send such pushes.")


def _device(body: dict[str, Any], config: PushConfig, now_ms: int) -> Subscription:
    if not config.devices:
        raise not_configured()
    _check_names(body, frozenset({"device"}))
    device = body["device"]
    if not isinstance(device, str) or not 0 < len(device) <= MAX_DEVICE or not _plain(device):
        raise invalid(
            "device", f"'device' must be a string of 1 to {MAX_DEVICE} printable ASCII characters."
        )
    return Subscription(now_ms, device=device)


def _endpoint(written: Any, config: PushConfig) -> str:
    """Checks the URL at the push service. Workers check the address again when they connect."""
    if not isinstance(written, str) or not 0 < len(written) <= MAX_ENDPOINT:
        raise invalid("endpoint", f"'endpoint' must be a string of 1 to {MAX_ENDPOINT} characters.")
    try:
        parts = urlsplit(written)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        host, port = "", None
        parts = urlsplit("")
    schemes = ("https", "http") if config.allow_private else ("https",)
    if parts.scheme not in schemes or not host or "@" in parts.netloc or not _plain(written):
        raise invalid("endpoint", "'endpoint' must be an https:// URL of a push service.")
    allowed = [_port(service) for service in config.services if _matches(host, service)]
    if not allowed or (not config.allow_private and _is_private(host)):
        raise invalid("endpoint", "'endpoint' is not at a push service that this server allows.")
    ports = {None, HTTPS_PORT, *allowed}
    if not config.allow_private and port not in ports and ANY_PORT not in ports:
        raise invalid(
            "endpoint",
            f"'endpoint' must use port {HTTPS_PORT}, or the port that this server allows for the "
            "push service.",
        )
    return written


def _plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text


def _matches(host: str, service: str) -> bool:
    name = service.rpartition(":")[0] if _port(service) is not None else service
    if name.startswith("*."):
        return host.endswith(name[1:])
    return service == EVERY_HOST or name == host


def _port(service: str) -> int | None:
    """Returns the port of an allowed push service, `ANY_PORT`, or None for the port of HTTPS.

    An IPv6 address contains several colons, so its entry cannot name a port.
    """
    if service == EVERY_HOST:
        return ANY_PORT
    _, colon, port = service.partition(":")
    return int(port) if colon and port.isascii() and port.isdecimal() else None


def _is_private(host: str) -> bool:
    """Returns True if a host is an IP address, but not a public one."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return not is_public(host)


def _expiry(written: Any, now_ms: int) -> int:
    if written is None:
        return 0
    if isinstance(written, bool) or not isinstance(written, int | float) or written >= 2**53:
        raise invalid("expirationTime", "'expirationTime' must be a time in milliseconds, or null.")
    if written < now_ms + 1:  # Redis accepts only a TTL of at least a millisecond
        raise invalid("expirationTime", "The push subscription has expired. Subscribe again.")
    return int(written)


def _server_key(written: Any, config: PushConfig) -> bytes:
    if written is None:
        return config.server_keys[0]
    key = _point(written, "application_server_key")
    if key not in config.server_keys:
        raise invalid(
            "application_server_key",
            "The push subscription was made with a key that this server does not have. "
            "Get the key from GET /v1/push/key, and subscribe again.",
            "unknown_application_server_key",
        )
    return key


def _point(written: Any, place: str) -> bytes:
    # The import of the cryptography library is slow, so servers without these keys skip it.
    from jobs.vapid import public_key

    point = _bytes(written, place)
    try:
        public_key(point)
    except ValueError:
        raise invalid(place, f"'{place}' must be an uncompressed point of P-256.") from None
    return point


def _bytes(written: Any, place: str) -> bytes:
    from jobs.vapid import decode

    try:
        if isinstance(written, str) and len(written) <= MAX_ENDPOINT:
            return decode(written)
    except ValueError:
        pass
    raise invalid(place, f"'{place}' must be a base64url string.")


def _check_names(body: dict[str, Any], known: frozenset[str], place: str = "") -> None:
    for name in body:
        if name not in known:
            shown_name = f"{place}{name[:64]}"
            raise invalid(shown_name, f"Unknown parameter: '{shown_name}'.", "unknown_parameter")
