"""One shape under several types."""

from __future__ import annotations

import re

import msgspec
from msgspec import Struct


def _named(kind: str) -> str:
    """The name of a type: `response.output_text.delta` is `ResponseOutputTextDelta`."""
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
