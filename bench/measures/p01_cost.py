"""P1: CPU of the whole system for one job, against the design that it replaces."""

from bench.figures import Bound, Measure

from .jobs import CPU, OURS, SEED, UNITS, contest

MEASURE = Measure(
    name="P1",
    title="A job's cost: answers that the model gives at once, at a steady pace",
    sizes={
        "full": {"rate": 100, "seconds": 4, "tokens": 50},
        "quick": {"rate": 50, "seconds": 3, "tokens": 50},
    },
    units=UNITS,
    bounds=(
        Bound(
            "CPU a job of Express and BullMQ polled every second, against ours",
            lambda one: one[SEED][CPU] / one[OURS][CPU],
            least=4,
        ),
    ),
    open=contest,
)
