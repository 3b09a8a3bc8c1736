from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from runtime.metrics import MAX_CHILDREN, Metric, Registry, State, markdown, merged, render

SENT = Metric("sent_total", "counter", "`sent` [things](x.md)", "it falls", ("to",))
OPEN = Metric("open", "gauge", "open things")
OLDEST = Metric("start_seconds", "gauge", "start", merge="min")
TOOK = Metric("took_seconds", "histogram", "time", buckets=(0.1, 1))
ALL = (SENT, OPEN, OLDEST, TOOK)


def process(*sent: str, opened: float = 0, started: float = 0, took: float | None = None) -> State:
    registry = Registry()
    counter = registry.values(SENT)
    for to in sent:
        counter.labels(to).inc()
    registry.value(OPEN).set(opened)
    registry.value(OLDEST).set(started)
    distribution = registry.distribution(TOOK)
    if took is not None:
        distribution.observe(took)
    return registry.state()


def samples(state: State) -> dict[str, float]:
    return {
        sample.name + "".join(f" {value}" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(render(ALL, state).decode())
        for sample in family.samples
    }


def test_a_standard_parser_reads_the_page() -> None:
    found = samples(process("a", "a", 'b"\n\\', opened=2.5, took=0.1))
    assert found == {
        "sent_total a": 2,
        'sent_total b"\n\\': 1,
        "open": 2.5,
        "start_seconds": 0,
        "took_seconds_bucket 0.1": 1,  # a bound belongs to its bucket
        "took_seconds_bucket 1.0": 1,
        "took_seconds_bucket +Inf": 1,
        "took_seconds_count": 1,
        "took_seconds_sum": pytest.approx(0.1, abs=1e-6),
    }


@pytest.mark.parametrize(("value", "bucket"), [(0, 0), (0.1, 0), (0.11, 1), (1, 1), (1.1, 2)])
def test_a_value_is_counted_in_its_bucket(value: float, bucket: int) -> None:
    distribution = Registry().distribution(TOOK)
    distribution.observe(value)
    assert 1 == distribution.counts[bucket]


def test_totals_of_ended_processes_count_and_their_gauges_do_not() -> None:
    live = [process("a", opened=1, started=20, took=2), process("b", opened=2, started=10)]
    found = samples(merged(ALL, live, process("a", opened=7, started=1, took=0.5)))
    assert 2 == found["sent_total a"]
    assert 1 == found["sent_total b"]
    assert 3 == found["open"]
    assert 10 == found["start_seconds"]
    assert 1 == found["took_seconds_bucket 1.0"]
    assert 2.5 == found["took_seconds_sum"]


def test_label_values_beyond_the_limit_are_added_up() -> None:
    counter = Registry().values(SENT)
    for number in range(MAX_CHILDREN + 5):
        counter.labels(f"{number}").inc()
    assert MAX_CHILDREN + 1 == len(counter.children)
    assert 5 == counter.labels("other").count


def test_replaced_values_disappear() -> None:
    gauge = Registry().values(Metric("depth", "gauge", "depth", labels=("model",)))
    gauge.replace({("a",): 1, ("b",): 2})
    gauge.replace({("b",): 3})
    assert {("b",): 3} == {values: one.count for values, one in gauge.children.items()}


def test_a_metric_is_added_once() -> None:
    registry = Registry()
    registry.value(OPEN)
    with pytest.raises(ValueError, match="open"):
        registry.value(OPEN)


def test_the_table_for_the_documents_and_the_help_text() -> None:
    table = markdown(ALL).split("\n")
    assert "| `sent_total` | counter | `to` | | `sent` [things](x.md) | it falls |" == table[2]
    assert "| `took_seconds` | histogram | | seconds | time | |" == table[5]
    assert "# HELP sent_total sent things\n" in render(ALL, process()).decode()
