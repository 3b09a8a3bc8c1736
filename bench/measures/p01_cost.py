"""P1: CPU of the whole system per job, compared with a polling design."""

from bench.figures import Bound, Measure

from .jobs import CPU, OURS, SEED, UNITS, contest

MEASURE = Measure(
    name="P1",
    title="Cost of a job: immediate answers of the model, at a steady rate",
    sizes={
        "full": {"rate": 100, "seconds": 4, "tokens": 50},
        "quick": {"rate": 50, "seconds": 3, "tokens": 50},
    },
    units=UNITS,
    bounds=(
        Bound(
            "CPU per job: Express and BullMQ polled every second, relative to Holdline",
            lambda one: one[SEED][CPU] / one[OURS][CPU],
            least=4,
        ),
    ),
    open=contest,
)
