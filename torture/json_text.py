"""Decodes JSON that another program has written."""

from __future__ import annotations

import json
from typing import Any


def parsed(text: str) -> Any:
    """Returns the value of a JSON text.

    Raises:
        ValueError: the text is no JSON, or is nested too deeply to be read.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None
