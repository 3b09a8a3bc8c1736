"""Reads the worker's settings for pushes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jobs.config import shared_config
from jobs.config.settings import ConfigError, number, text, whole

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobs.vapid import VapidKey


@dataclass(frozen=True, slots=True)
class PushConfig:
    """The settings for pushes. `keys` are the VAPID keys by their public keys.

    `contact` is the operator's address for push services. `devices` is True if apps may register
    device tokens, to which the site sends the pushes. `preview_characters` is the number of
    characters of the answer in a push. A push is not sent later than `ttl_seconds` after the end of
    its response.
    """

    keys: dict[bytes, VapidKey] = field(default_factory=dict, repr=False)
    contact: str = ""
    devices: bool = False
    preview_characters: int = 0
    ttl_seconds: float = 86_400.0
    allow_private: bool = False

    @property
    def enabled(self) -> bool:
        """True if pushes are sent."""
        return bool(self.keys) or self.devices

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> PushConfig:
        """Reads the settings. Raises: ConfigError."""
        keys, contact = shared_config.vapid_keys(environ), text(environ, "HOLDLINE_VAPID_CONTACT")
        if keys and not contact.startswith(("mailto:", "https://")):
            raise ConfigError(
                "HOLDLINE_VAPID_KEYS requires HOLDLINE_VAPID_CONTACT, which must begin with "
                "mailto: or https://, for example mailto:ops@app.example"
            )
        return cls(
            keys=keys,
            contact=contact,
            devices=shared_config.push_devices(environ),
            preview_characters=whole(environ, "HOLDLINE_PUSH_PREVIEW_CHARACTERS"),
            ttl_seconds=number(environ, "HOLDLINE_PUSH_TTL_SECONDS"),
            allow_private=text(environ, "HOLDLINE_PUSH_ALLOW_PRIVATE") == "1",
        )
