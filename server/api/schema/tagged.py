"""Defines variants of one struct for several values of `type`."""

from __future__ import annotations

import re

import msgspec
from msgspec import Struct


def _named(kind: str) -> str:
    """Returns the class name for an event type: `ResponseCreated` for `response.created`."""
    return "".join(word.capitalize() for word in re.split("[:._]", kind))


def tagged(base: type[Struct], *kinds: str) -> dict[str, type[Struct]]:
    return {
        kind: msgspec.defstruct(
            _named(kind) if kind != "error" else "ErrorEvent",
            [],
            bases=(base,),
            tag_field="type",
            tag=kind,
            kw_only=True,
            namespace={"__doc__": base.__doc__},
        )
        for kind in kinds
    }
