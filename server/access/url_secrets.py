"""Refuses URLs whose query carries a credential. Pure: no I/O.

URLs end up in logs, browser histories and `Referer` headers, so a secret in a URL has leaked. Such
a request is refused: if it were served, the caller would never notice the leak.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from server.api.problem import Problem

from .api_keys import PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping

# Parameter names are compared in lower case and without punctuation. Examples: `X-Api-Key`,
# `auth[token]`, `id_token`.
_NAME: Final = re.compile(
    r"^(key|sk|sig|sid)$|token|secret|passw|pwd|auth(?!or)|authoriz|bearer|jwt|credential|session|"
    r"(api|access|private|subscription|master|service|app)keys?"
)
# Matches Holdline keys, providers' keys and JSON Web Tokens, under any parameter name.
_VALUE: Final = re.compile(
    rf"bearer\s.*|({PREFIX}|sk-|sk_|pk_|gsk_|ghp_|xai-|AIza|AKIA)\S{{12,}}|"
    r"eyJ[\w-]+\.eyJ[\w-]*\.[\w-]*",
    re.IGNORECASE,
)
# Matches a parameter name that is safe to show in the error: short, and not containing a value.
_SHOWN: Final = re.compile(r"[\w.\[\]-]{1,32}")


def check_url(query: Mapping[str, str]) -> None:
    """Raises Problem for a query that carries a credential; the error repeats no value."""
    for name, value in query.items():
        if _is_secret(name, value):
            shown = name if _SHOWN.fullmatch(name) and not _VALUE.fullmatch(name) else None
            subject = "A parameter" if shown is None else f"Parameter '{shown}'"
            raise Problem(
                400,
                "token_in_url",
                f"{subject} of this URL looks like a secret. URLs are logged, so replace the "
                "secret, and send the new one as 'Authorization: Bearer', in a first message "
                "of type 'holdline:auth', or as the subprotocol 'bearer.<token>'.",
                param=shown,
            )


def _is_secret(name: str, value: str) -> bool:
    bare = re.sub(r"[\W_]", "", name).lower()
    return bool(
        _NAME.search(bare) or _VALUE.fullmatch(value.strip()) or _VALUE.fullmatch(name.strip())
    )
