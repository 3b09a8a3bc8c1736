"""Draws the picture of a trace in docs/watch.md: `python -m dev.trace`.

It shows an answer whose first worker died. A test compares its spans with those of such an answer.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from .architecture import BLUE, GREEN, GREY, INK, LINE, ROOT, ROSE, box, picture, text


class Bar(NamedTuple):
    """A span in the picture. Times are in seconds from the beginning of the trace.

    `parent` is the name of its parent in the same trace, or "" for the client's own span.
    """

    name: str
    parent: str
    process: str
    began: float
    ended: float
    about: str


SERVER, FIRST, SECOND = "server", "worker 1", "worker 2"
LINKED: Final = "deliver"  # it belongs to the trace of the client that resumes
BARS: Final = (
    Bar("POST /v1/responses", "", SERVER, 0.0, 0.04, ""),
    Bar("submit", "POST /v1/responses", SERVER, 0.01, 0.04, "stores and queues the prompt"),
    Bar("queue", "submit", FIRST, 0.04, 0.4, "claimed by worker 1"),
    Bar("attempt", "submit", SECOND, 0.4, 2.6, "holdline.cause = worker_lost"),
    Bar("queue", "submit", SECOND, 2.6, 2.9, "holdline.reason = worker_lost"),
    Bar("attempt", "submit", SECOND, 2.9, 5.6, "holdline.attempt = 2"),
    Bar("chat m", "attempt", SECOND, 3.0, 5.4, "the call to the model's endpoint"),
    Bar(LINKED, "", SERVER, 3.4, 5.7, "another trace, linked to submit"),
)
DEATH: Final = 2.1  # the moment at which the first worker dies
SECONDS: Final = 6.0
LEFT, WIDTH, TOP, ROW = 190, 590, 66, 38
COLOURS: Final = {SERVER: BLUE, FIRST: ROSE, SECOND: GREEN}


def trace() -> str:
    """Returns the SVG of the trace."""
    height = TOP + ROW * len(BARS) + 10
    drawn = [text(10, 26, ["One trace: an answer whose first worker dies"], bold=True, size=15)]
    for second in range(int(SECONDS) + 1):
        x = _x(second)
        drawn.append(_line(x, TOP - 12, x, height - 12, "#e5e7eb"))
        drawn.append(text(x - 8, TOP - 18, [f"{second} s"], colour=GREY))
    death = _x(DEATH)
    for nth, bar in enumerate(BARS):
        y = TOP + ROW * nth
        left, right = _x(bar.began), max(_x(bar.ended), _x(bar.began) + 6)
        drawn.append(text(10 + 12 * _depth(bar), y + 12, [bar.name], bold=True))
        drawn.append(text(10 + 12 * _depth(bar), y + 26, [bar.process], colour=GREY, size=11))
        drawn.append(box(left, y, right - left, 18, COLOURS[bar.process]))
        at_left = right < LEFT + WIDTH // 2
        drawn.append(text(right + 8 if at_left else left + 8, y + 13, [bar.about], colour=INK))
    drawn.append(_line(death, TOP - 12, death, TOP + ROW * 4 - 2, LINE, dashed=True))
    drawn.append(text(death + 6, TOP + ROW * 4 - 6, ["worker 1 is killed"], colour=GREY))
    return picture(height, "The trace of an answer whose first worker died", drawn)


def _x(seconds: float) -> int:
    return LEFT + round(WIDTH * seconds / SECONDS)


def _depth(bar: Bar) -> int:
    """Returns the number of ancestors of a span."""
    parent = next((one for one in BARS if one.name == bar.parent), None)
    return 0 if parent is None else 1 + _depth(parent)


def _line(x: int, y: int, to_x: int, to_y: int, colour: str, *, dashed: bool = False) -> str:
    dash = ' stroke-dasharray="4 3"' if dashed else ""
    return f'<path d="M{x} {y}L{to_x} {to_y}" stroke="{colour}"{dash}/>'


def pictures() -> dict[str, str]:
    """Returns the SVG text of the picture, by its file name in docs/images."""
    return {"trace.svg": trace()}


if __name__ == "__main__":
    for name, drawn in pictures().items():
        (ROOT / "docs" / "images" / name).write_text(drawn)
