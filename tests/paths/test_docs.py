"""Tests that the documents' tables and settings match the code."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from math import inf, nextafter
from pathlib import Path
from typing import Any

import pytest
from msgspec.inspect import StructType, type_info

from admin.audited import Audit
from jobs.config.settings import ConfigError, markdown
from jobs.config.settings_table import SETTINGS
from jobs.names import Partition
from jobs.redis import permissions
from jobs.scripts import SCRIPTS
from runtime import logs
from runtime.metrics import markdown as markdown_of_metrics
from server import metrics as server_metrics
from server.access.principal import CREATE, OF_MESSAGES, OF_ROUTES
from server.api.client_messages import MESSAGE_TYPES
from server.api.close_codes import CloseCode
from server.api.failures import FAILURES
from server.api.problem import STANDARD_CODES
from server.api.refusals import REFUSALS
from server.api.request import Create
from server.config import Config
from tests.metrics_tables import TABLES
from tests.paths.documents import (
    CONFIGURE,
    DOCUMENTS,
    MODELS,
    PROTOCOL,
    REDIS,
    REFERENCE,
    ROOT,
    SECURE,
    WATCH,
    blocks,
    first_words,
    rows_of,
    section,
    table,
    words,
)
from tests.system import CODE
from worker import config as worker_config
from worker import metrics as worker_metrics
from worker.outcome import CAUSES, Finished, Policy, Then, decide


def calls(folder: str) -> Iterator[ast.Call]:
    for path in sorted((CODE / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                yield node


def constant(call: ast.Call, place: int) -> Any:
    argument = call.args[place] if place < len(call.args) else None
    return argument.value if isinstance(argument, ast.Constant) else None


# The tables in the documents


def test_the_documented_settings_match_the_code() -> None:
    named = {n for d in DOCUMENTS for n in re.findall(r"\bHOLDLINE_[A-Z_]+", d.read_text())}
    assert set() == named - SETTINGS.keys()
    assert f"\n\n{markdown()}\n\n" in section(CONFIGURE, "Settings"), (
        "run python -m jobs.config.settings"
    )


GIVEN = {"OPENAI_API_KEY": "any"}
NUMBERS = [row for row in table(CONFIGURE, "Settings") if row[2]]


@pytest.mark.parametrize(("name", "default", "limits"), [(*row[:3],) for row in NUMBERS])
def test_the_documented_default_and_limits_of_a_setting_match_the_code(
    name: str, default: str, limits: str
) -> None:
    name = name.strip("`")
    least, most = limits.split(", ")

    def read(**environ: str) -> tuple[Config, worker_config.Config, Audit]:
        found = Config.from_environ(environ), worker_config.load(GIVEN | environ)
        return *found, Audit.from_environ(environ)

    assert read() == read(**{name: default})
    for bound in {least, most} - {default}:
        assert read() != read(**{name: bound})
    for beyond in (nextafter(float(least), -inf), nextafter(float(most), inf)):
        with pytest.raises(ConfigError, match=name):
            read(**{name: str(beyond)})


def test_every_error_code_is_documented_with_its_status() -> None:
    coded: set[tuple[str, str]] = set()
    for call in calls("server"):
        match call.func:
            # `http_error` is not matched here, because its status comes from aiohttp's exception.
            case ast.Name("Problem") if constant(call, 1) and constant(call, 0):
                coded.add((constant(call, 1), str(constant(call, 0))))
            case ast.Name("invalid"):
                coded.add((constant(call, 2) or "invalid_value", "400"))
            case _:
                pass
    coded |= {(refusal.code, "429") for refusal in REFUSALS.values()}
    coded |= {
        ("not_found", "404"),
        ("method_not_allowed", "405"),
    }  # server.http.errors derives these codes from aiohttp's errors
    rows = table(REFERENCE, "Errors")
    assert sorted(coded) == sorted((words(row[0])[0], row[2]) for row in rows)
    assert dict(STANDARD_CODES) == {
        words(row[0])[0]: words(row[1])[0] for row in rows if row[1] != row[0]
    }


def test_the_documents_name_the_error_codes_that_are_sent() -> None:
    for page in (ROOT / "docs").rglob("*.md"):
        codes = re.findall(r"\b[45]\d\d `(\w+)`(?: \(`(\w+)`\))?", page.read_text())
        assert not {code for code, _ in codes} & STANDARD_CODES.keys(), page
        for code, ours in codes:
            assert not ours or STANDARD_CODES[ours] == code, page


def test_every_program_is_listed_with_its_tested_version() -> None:
    folder = ROOT / "tests/programs"
    tested: dict[str, str] = {}
    for file in (folder / "requirements.in", *folder.glob("environments/*.in")):
        lock = file.with_suffix(".txt").read_text()
        locked = dict(re.findall(r"^([\w-]+)==(\S+)", lock, re.MULTILINE))
        # A line with a marker is a dependency that a program lacks on some version of Python.
        names = re.findall(r"^([\w-]+)[^;\n]*$", file.read_text(), re.MULTILINE)
        tested |= {name: locked[name] for name in names}
    names = json.loads((folder / "package.json").read_text())["dependencies"]
    packages = json.loads((folder / "package-lock.json").read_text())["packages"]
    tested |= {name: packages[f"node_modules/{name}"]["version"] for name in names}
    document = (ROOT / "docs/programs.md").read_text()
    assert tested == dict(re.findall(r"`(\S+)` (\d[\d.]+\d)", document))


def test_every_redis_command_is_in_the_documented_acl() -> None:
    acl = section(SECURE, "Access to Redis")
    listed = {word.partition("|")[0] for word in re.findall(r"`([a-z|]+)`", acl)}
    sent: set[str] = set()
    for script in SCRIPTS.values():
        sent |= set(re.findall(r"redis\.p?call\('([A-Z]+)'", script.source.decode()))
    for folder in ("admin", "jobs", "server", "worker"):
        for path in (CODE / folder).rglob("*.py"):
            sent |= set(re.findall(r"""\.(?:call|ask)\(\s*"([A-Z]+)\"""", path.read_text()))
    assert {command.lower() for command in sent} - {"sentinel"} <= listed


def test_the_doctor_checks_every_command_in_the_documented_acl() -> None:
    required, optional, *_ = section(SECURE, "Access to Redis").strip().split("\n\n")
    pattern = r"`([a-z|]+)`"
    assert sorted(permissions.NEEDED) == sorted(re.findall(pattern, required))
    others = (*permissions.ADMIN, *permissions.SENTINEL, *permissions.CLUSTER)
    assert sorted(others) == sorted(re.findall(pattern, optional))


def test_every_failure_cause_is_documented_with_its_consequence() -> None:
    rows = table(REFERENCE, "Why a response failed or waits")
    assert {name: cause.then for name, cause in CAUSES.items()} == {
        words(row[0])[0]: Then(row[1]) for row in rows
    }


def test_every_error_code_of_a_failed_response_is_documented() -> None:
    rows = table(REFERENCE, "Error codes of failed responses")
    assert {
        cause: (failure.code, str(failure.status), "yes" if failure.retry else "no")
        for cause, failure in FAILURES.items()
    } == {words(row[0])[0]: (words(row[1])[0], row[2], row[3]) for row in rows}


def test_every_reason_of_an_incomplete_response_is_documented() -> None:
    rows = table(PROTOCOL, "The response log")
    [told] = [
        row[2] for row in rows if ["response.incomplete"] == words(row[0]) and "reason" in row[2]
    ]
    decided = (
        decide(cause, failures=0, policy=Policy(), jitter=0)
        for cause, row in CAUSES.items()
        if row.then is Then.INCOMPLETE
    )
    reasons = {one.reason for one in decided if isinstance(one, Finished)}
    assert reasons == set(words(told)) - {"incomplete_details.reason"}


def test_the_scope_of_every_route_and_message_is_documented() -> None:
    told = {
        words(row[0])[0]: words(row[1])
        for row in table(PROTOCOL, "Authentication")
        if len(row) == 2
    }
    for (method, path), scope in OF_ROUTES.items():
        if scope == CREATE:
            assert f"{method} {path}" in told[CREATE]
    for message, scope in OF_MESSAGES.items():
        kind = type_info(message)
        assert isinstance(kind, StructType)
        assert kind.tag in told[scope]


def test_every_close_code_is_documented_with_its_reconnect_advice() -> None:
    rows = table(REFERENCE, "Close codes")
    advice = {int(code): row[1] for row in rows for code in row[0].split(", ")}
    assert {code: code.come_back for code in CloseCode} == {
        code: advice[code].startswith("yes") for code in CloseCode
    }
    assert {int(code) for code in CloseCode} >= {code for code in advice if code >= 4000}


def test_every_message_is_documented() -> None:
    sent = set(first_words(table(REFERENCE, "Server messages")))
    received = set(first_words(table(REFERENCE, "Client messages")))
    assert set(MESSAGE_TYPES) == received
    written: set[str] = set()
    own = r'"((?:holdline:|response\.steer\.)[a-z.]*[a-z])"'
    for folder in ("jobs", "server"):
        for path in (CODE / folder).rglob("*.py"):
            written |= set(re.findall(own, path.read_text()))
    assert written - received == sent - {"error"}
    lines = "".join(blocks(PROTOCOL + REFERENCE, "json")).splitlines()
    shown = {event["type"] for event in map(json.loads, lines) if "type" in event}
    assert sent | received <= shown


def test_every_parameter_is_documented() -> None:
    rows = rows_of(section(REFERENCE, "Parameters"))
    assert set(Create.__struct_fields__) == set(first_words(rows))


def test_every_script_and_every_key_is_documented() -> None:
    assert sorted(SCRIPTS) == sorted(first_words(table(REDIS, "Scripts")))
    keys = rows_of(section(REDIS, "Keys").split("The fields of a job")[0])
    names = Partition(0)
    made = [
        *(names.job("x"), names.log("x"), names.notifications("x"), names.idempotency("x", "y")),
        *(
            names.waiting_prefix,
            names.ready,
            names.idle,
            names.since,
            names.queue_names,
            names.tenants,
            names.followed,
            names.queues,
            names.idle_workers,
            names.leases,
            names.delayed,
            names.open,
            names.sizes,
        ),
        *(names.dead, names.numbers, names.cancels, names.epoch, names.claimed("x")),
        *(
            names.hook("x"),
            names.hooks,
            names.push("x"),
            names.pushes,
            names.subscription("x"),
            names.subscriptions("x"),
            names.api_keys,
            names.cipher,
            names.audit,
            names.salt,
            names.format,
        ),
        *(names.tenant("x"), names.running("x"), names.held("x")),
        *(names.open_of("x"), names.rate("x"), names.used("x", 1)),
        *(names.pause("x"), names.pace("x"), names.replies("x", "y"), names.chat("x", "y")),
        names.steers("x"),
        *(names.turn("x"), names.conversation("x"), names.items("x"), names.positions("x")),
        *(names.pending("x"), names.removed("x"), names.unsettled),
        *(names.conversations("x"), names.conversation_bytes("x")),
        *(names.conversation_list("x"), names.feed("x")),
        names.probe("x"),
        names.wake("x"),
        *(names.usage(1), names.workers, names.worker("x"), names.servers, names.server("x")),
        *(names.rescued, names.feedbacks, names.feedback("x")),
    ]
    public = [name for name in dir(names) if not name.startswith("_")]
    assert len(public) == len(made) + len(("number", "prefix")), "a key is missing from this test"
    kinds = {name.removeprefix(names.prefix).partition(":")[0] for name in made}
    assert kinds == {name.partition(":")[0] for name in first_words(keys)}


@pytest.mark.parametrize("heading", TABLES)
def test_the_documented_metrics_match_the_code(heading: str) -> None:
    expected = markdown_of_metrics(TABLES[heading])
    assert f"\n### {heading}\n\n{expected}\n\n" in WATCH, "run python -m tests.metrics_tables"


def test_each_program_has_the_documented_metrics() -> None:
    common = [*server_metrics.COMMON]
    for of_program, registry in (
        (server_metrics.ALL, server_metrics.Metrics().registry),
        (worker_metrics.ALL, worker_metrics.WorkerMetrics().registry),
    ):
        names = sorted(metric.name for metric in registry.metrics)
        assert names == sorted(metric.name for metric in (*of_program, *common))


def test_the_names_of_metrics_follow_the_conventions_of_prometheus() -> None:
    for metric in (metric for metrics in TABLES.values() for metric in metrics):
        assert re.fullmatch("(holdline|gen_ai|process)_[a-z_]+", metric.name)
        assert (metric.kind == "counter") == metric.name.endswith("_total")
        assert not metric.name.endswith(("_count", "_sum", "_bucket", "_ms"))
        assert not {"le", "job", "instance"} & {*metric.labels}
        assert bool(metric.buckets) == (metric.kind == "histogram")


def log_calls(*folders: str) -> Iterator[tuple[str, ast.Call]]:
    """Yields the method and the call expression of each use of a logger."""
    for call in (call for folder in folders for call in calls(folder)):
        match call.func:
            case ast.Attribute(ast.Name("log") | ast.Attribute(attr="_log"), method):
                yield method, call
            case _:
                pass


@pytest.mark.parametrize(("folder", "nth"), [("server", 0), ("worker", 1)])
def test_every_log_line_is_documented(folder: str, nth: int) -> None:
    said = {
        constant(call, 1 if method == "log" else 0)
        for method, call in log_calls(folder, "jobs", "runtime")
        if method != "bind"
    }
    assert None not in said, "a message that is not constant"
    half = section(WATCH, "Log lines").split("A worker logs:")[nth]
    assert said == {words(row[0])[0] for row in rows_of(half)}


def test_log_lines_have_only_the_documented_fields() -> None:
    packages = ("server", "worker", "jobs", "runtime", "admin", "dev", "holdline_client")
    keywords = [keyword for _, call in log_calls(*packages) for keyword in call.keywords]
    unpacked = [ast.unparse(keyword.value) for keyword in keywords if keyword.arg is None]
    assert ["timing_of(grant, call, claimed)"] == unpacked
    used = {keyword.arg for keyword in keywords} - {None, "exc_info"}
    used |= {"exception", "trace_id", "queued_ms", "first_token_ms", "model_ms", "total_ms"}
    documented = table(WATCH, "Log fields")
    assert used == set(first_words(documented))
    assert logs.__doc__ is not None
    fields = re.findall(r"^(\w+)  +(.+)$", logs.__doc__, re.MULTILINE)
    assert fields == [(words(row[0])[0], row[1]) for row in documented]


def test_the_documented_models_file_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "models.toml"
    path.write_text("".join(blocks(MODELS, "toml")))
    environ = {"HOLDLINE_MODELS": str(path), "OPENAI_API_KEY": "a", "LARGE_KEY": "b"}
    config = worker_config.load(environ)
    ending = ["gpt-4.1", "gemini", "mounted"]
    assert ["fast", "large", "local", "gpt-4.1-mini", *ending] == list(config.endpoints)
    assert ["fast", "large", "gpt-4.1-mini"] == [each.name for each in config.routes(None)]
    assert ["chat", "responses", "chat"] == [each.api for each in config.routes(None)]
    server = Config.from_environ(environ)
    assert ("fast", "large") == (server.catalog.default, server.templates["translate"].model)
