"""Defines a checkpoint, with which another worker can continue an answer where its log ends.

An endpoint can generate a response in the background, and send its events again from any position.
The worker stores a checkpoint with each append to the log of such a response, in the same script.
So another worker can continue to read the same response exactly where the log ends.

Other models can continue an unfinished text. The checkpoint of such an answer contains only the two
names of the model, because the text is in the log. It never changes, so it is stored only once.
"""

from __future__ import annotations

from typing import Any

import msgspec

# A row for each item of the endpoint: its output index in the log, its output index at the endpoint
# or -1, whether it has ended, its ids at the endpoint, and a row for each of its parts. The row of
# a part has its group, its index at the endpoint, its type and its index in the log.
Row = list[Any]


class Checkpoint(msgspec.Struct, frozen=True, array_like=True):
    """The events of an endpoint's response whose output is in the log.

    `model` is the name of the model in the models file, and `upstream_id` the endpoint's own id of
    the response, or empty if the model can only continue the text. `sequence_number` is that of
    the last event. `rows` relate the endpoint's items to those in the log. `upstream_model` is the
    endpoint's own name for a model that can continue the text. If it has changed in the models
    file, the text is not continued, because another model would continue it.
    """

    model: str
    upstream_id: str = ""
    sequence_number: int = 0
    rows: list[Row] = []
    upstream_model: str = ""

    def encoded(self) -> bytes:
        return msgspec.msgpack.encode(self)


def decoded(data: bytes) -> Checkpoint | None:
    """Returns an encoded checkpoint, or None if there is none or it is invalid."""
    if not data:
        return None
    try:
        return msgspec.msgpack.decode(data, type=Checkpoint)
    except msgspec.DecodeError:
        return None
