"""P1: the CPU time of the whole system per job, compared with a polling design."""

from bench.figures import Bound, Measure

from .jobs import CPU, OURS, SEED, UNITS, contest

MEASURE = Measure(
    name="P1",
    title="CPU time of a job, at a steady rate and with a model that answers immediately",
    sizes={
        "full": {"rate": 100, "seconds": 4, "tokens": 50},
        "quick": {"rate": 50, "seconds": 3, "tokens": 50},
    },
    units=UNITS,
    bounds=(
        Bound(
            "CPU time per job: Express and BullMQ, polled every second, divided by Holdline",
            lambda one: one[SEED][CPU] / one[OURS][CPU],
            least=2,
        ),
    ),
    open=contest,
)
