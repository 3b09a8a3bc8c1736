"""The text of the simulated model, in which each piece shows its call and its number.

A piece is `c1p17:harbour `. A wrong text therefore shows which pieces are missing, repeated or
mixed.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

# Some words are not ASCII, because a piece can be cut in the middle of a character.
WORDS: Final = (
    *("harbour", "lantern", "meadow", "copper", "naïve", "violet", "granite", "日本語"),
    *("thimble", "orchard", "crème", "signal", "ember", "улица", "willow", "🙂🙃"),
)
_PIECE: Final = re.compile(r"c(\d+)p(\d+):")
_SHOWN: Final = 5


def piece(seed: int, prompt: str, call: int, number: int, size: int = 0) -> str:
    """Returns a piece of the answer to a prompt, which depends on nothing else."""
    digest = hashlib.sha256(f"{seed} {prompt} {call} {number}".encode()).digest()
    word = WORDS[digest[0] % len(WORDS)]
    text = f"c{call}p{number}:{word}"
    return text + "." * max(0, size - len(text.encode()) - 1) + " "


def answer(seed: int, prompt: str, call: int, pieces: int, size: int = 0) -> str:
    """Returns the first pieces of the answer of one call, joined."""
    return "".join(piece(seed, prompt, call, number, size) for number in range(pieces))


def describe(text: str, pieces: int) -> str:
    """Returns the difference between a text and the whole answer of one call, as a sentence."""
    found = [(int(call), int(number)) for call, number in _PIECE.findall(text)]
    if not found:
        return f"no piece of {pieces} arrived; the text is {text[:60]!r}"
    calls = sorted({call for call, _ in found})
    if len(calls) > 1:
        return f"it mixes the pieces of the calls {', '.join(map(str, calls))}"
    numbers = [number for _, number in found]
    missing = sorted(set(range(pieces)) - set(numbers))
    repeated = sorted({number for number in numbers if numbers.count(number) > 1})
    if missing:
        return f"{len(missing)} of {pieces} pieces are missing: {_some(missing)}"
    if repeated:
        return f"{len(repeated)} pieces arrived more than once: {_some(repeated)}"
    if numbers != sorted(numbers):
        return "the pieces are not in order"
    return "the pieces are whole, but their text differs"


def _some(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:_SHOWN]))
    return f"{shown}, ..." if len(numbers) > _SHOWN else shown
