"""P2: from the prompt to the whole answer, against the design that polls once a second."""

from bench.figures import Bound, Measure

from .jobs import DELAY, OURS, SEED, UNITS, contest

MEASURE = Measure(
    name="P2",
    title="The delay that is added: from the prompt to the whole answer, the model taking no time",
    sizes={
        "full": {"rate": 20, "seconds": 3, "tokens": 50},
        "quick": {"rate": 20, "seconds": 2, "tokens": 50},
    },
    units=UNITS,
    bounds=(
        Bound(
            "delay of polling every second, against ours",
            lambda one: one[SEED][DELAY] / one[OURS][DELAY],
            least=200,
        ),
    ),
    open=contest,
)
