"""P2: the delay from the prompt to the complete answer, compared with polling every second."""

from bench.figures import Bound, Measure

from .jobs import DELAY, OURS, SEED, UNITS, contest

MEASURE = Measure(
    name="P2",
    title="Delay from the prompt to the complete answer, with a model that answers immediately",
    sizes={
        "full": {"rate": 20, "seconds": 3, "tokens": 50},
        "quick": {"rate": 20, "seconds": 2, "tokens": 50},
    },
    units=UNITS,
    bounds=(
        Bound(
            "delay until the complete answer: polling every second, divided by Holdline",
            lambda one: one[SEED][DELAY] / one[OURS][DELAY],
            least=200,
        ),
    ),
    open=contest,
)
