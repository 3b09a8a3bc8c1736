"""Target files. They describe a system: its start, its addresses, possible faults and promises.

docs/torture.md describes the format.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from torture.table import Table

# The parts of the standard that a target can have, with their requests.
ROUTES: Final = {
    "responses": "POST /responses",
    "stream": 'POST /responses with "stream": true',
    "background": 'POST /responses with "background": true, and GET /responses/{id}',
    "resume": "GET /responses/{id}?stream=true&starting_after=N",
    "cancel": "POST /responses/{id}/cancel",
    "conversations": "/conversations, and `conversation` in POST /responses",
    "websocket": "a WebSocket at /responses",
    "chat_completions": "POST /chat/completions",
}
ROLES: Final = ("server", "worker", "store", "other")
FAULTS: Final = ("kill", "freeze", "restart")
SIGNALS: Final = {"TERM": signal.SIGTERM, "INT": signal.SIGINT, "QUIT": signal.SIGQUIT}
PLACEHOLDER: Final = re.compile(r"\{(\w+)(?::([\w-]+))?\}")
# Placeholders without a name after a colon.
PLAIN: Final = (
    "port",
    "model_url",
    "model_root",
    "folder",
    "target",
    "install",
    "python",
    "instance",
)
_NAME: Final = re.compile(r"[\w-]{1,40}")
_URL: Final = re.compile(r"https?://[^\s/]+\S*")
# A placeholder can contain the beginning of a URL, or a whole address.
_FILLED_URL: Final = re.compile(rf"{_URL.pattern}|\{{(parameter|env):\S+")
_ADDRESS: Final = re.compile(r"\S*:(\d{1,5}|\{\S+\})|\{\S+\}")


@dataclass(frozen=True)
class Ready:
    """The readiness check of a process: `kind` is `tcp`, `http` or `output`."""

    kind: str
    value: str


@dataclass(frozen=True)
class ProcessSpec:
    """A process of the target, of which `count` instances run.

    Attributes:
        roles: one or more of `server`, `worker`, `store` and `other`.
        start: the command, with placeholders.
        url: the base URL of the API that the process serves, or "".
        can: the faults that cases may cause: `kill`, `freeze` and `restart`.
    """

    name: str
    roles: frozenset[str]
    start: tuple[str, ...]
    cwd: str
    environment: Mapping[str, str]
    count: int
    url: str
    ready: Ready | None
    ready_seconds: float
    stop_signal: signal.Signals
    stop_seconds: float
    can: frozenset[str]


@dataclass(frozen=True)
class Claim:
    """A promise of the target's documents: the cases that test it, and the page that makes it.

    Attributes:
        line: the line of `cases` in the target file.
    """

    cases: tuple[str, ...]
    url: str
    promise: str
    line: int


@dataclass(frozen=True)
class Limits:
    """Time limits of a target, in seconds.

    Attributes:
        answer_seconds: for an answer without a fault, in addition to the time of the model.
        recovery_seconds: for an answer to continue or fail after a fault.
        cancel_seconds: for a cancelled call of the model to be closed.
        stall_seconds: for the target to give up a model that sends nothing; 0 if it waits forever.
    """

    answer_seconds: float
    recovery_seconds: float
    cancel_seconds: float
    stall_seconds: float


@dataclass(frozen=True)
class Setup:
    """The installation of a target, which is repeated if the commands or the files change."""

    commands: tuple[tuple[str, ...], ...]
    files: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Target:
    """A system under test.

    Attributes:
        urls: the base URLs of a target without processes.
        simulated: true if the target calls the simulated model of the suite.
        model_port: the port of the simulated model; 0 if the suite may choose one.
        time_factor: the factor by which the suite lengthens the time limits of the file.
        notes: settings that differ from the defaults, and where the suite may be unfair.
    """

    path: Path
    name: str
    about: str
    home: str
    version: tuple[str, ...]
    notes: tuple[str, ...]
    setup: Setup
    parameters: Mapping[str, str]
    model: str
    simulated: bool
    model_port: int
    api_key: str
    headers: Mapping[str, str]
    routes: frozenset[str]
    urls: tuple[str, ...]
    processes: tuple[ProcessSpec, ...]
    claims: tuple[Claim, ...]
    limits: Limits
    time_factor: float = 1

    @property
    def key(self) -> str:
        """The name of the target in file names."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")

    @property
    def offers(self) -> frozenset[str]:
        """The features of the target that cases can need; see `Case.needs`."""
        found = set(self.routes)
        for process in self.processes:
            found |= {f"{fault} {role}" for fault in process.can for role in process.roles}
        if self.simulated:
            found.add("model")
        if self.routes & {"background", "responses"}:
            found.add("turns")
        if len(self.urls) + self._instances("server") > 1:
            found.add("two servers")
        if self._instances("worker") > 1:
            found.add("two workers")
        workers = [spec for spec in self.processes if "worker" in spec.roles]
        if workers and not any("server" in spec.roles for spec in workers):
            found.add("separate worker")
        if self.limits.stall_seconds:
            found.add("stall timeout")
        return frozenset(found)

    def _instances(self, role: str) -> int:
        return sum(spec.count for spec in self.processes if role in spec.roles)


def load(path: Path, parameters: Mapping[str, str] | None = None) -> Target:
    """Reads and checks a target file. `parameters` replaces values of its table `parameters`.

    Raises:
        TargetError: the file is invalid, or a parameter is unknown.
    """
    table = Table.load(path)
    known = table.pairs("parameters")
    for name in parameters or {}:
        if name not in known:
            raise table.error("parameters", f"has no parameter {name!r}")
    model, client = table.table("model"), table.table("client")
    processes = tuple(_process(one) for one in table.tables("process"))
    target = Target(
        path=path.resolve(),
        name=table.text("name"),
        about=table.text("about"),
        home=_url(table, "home"),
        version=table.texts("version", ()),
        notes=table.texts("notes", ()),
        setup=_setup(table.table("setup")),
        parameters={**known, **(parameters or {})},
        model=model.text("name"),
        simulated=model.flag("simulated", default=True),
        model_port=model.integer("port", 0, 0, 65535),
        api_key=client.text("api_key", ""),
        headers=client.pairs("headers"),
        routes=client.choices("routes", ROUTES),
        urls=tuple(_base_url(client, "urls", url) for url in client.texts("urls", ())),
        processes=processes,
        claims=tuple(_claim(one) for one in table.tables("claim")),
        limits=_limits(table.table("limits")),
    )
    for inner in (model, client, table):
        inner.close()
    _check(table, target)
    return target


def _setup(table: Table) -> Setup:
    setup = Setup(
        table.commands("commands"),
        table.texts("files", ()),
        table.number("seconds", 900, 1, 7200),
    )
    table.close()
    return setup


def _limits(table: Table) -> Limits:
    limits = Limits(
        table.number("answer_seconds", 20, 1, 600),
        table.number("recovery_seconds", 30, 1, 600),
        table.number("cancel_seconds", 5, 1, 600),
        table.number("stall_seconds", 0, 0, 600),
    )
    table.close()
    return limits


def _claim(table: Table) -> Claim:
    claim = Claim(
        table.texts("cases"),
        _url(table, "url"),
        table.text("promise", ""),
        table.line("cases"),
    )
    table.close()
    return claim


def _process(table: Table) -> ProcessSpec:
    name = table.text("name")
    if not _NAME.fullmatch(name):
        raise table.error("name", "must consist of letters, digits, - and _")
    stop = table.text("stop_signal", "TERM")
    if stop not in SIGNALS:
        raise table.error("stop_signal", f"must be one of {', '.join(SIGNALS)}")
    spec = ProcessSpec(
        name=name,
        roles=table.choices("roles", ROLES),
        start=table.texts("start"),
        cwd=table.text("cwd", "{target}"),
        environment=table.pairs("environment"),
        count=table.integer("count", 1, 1, 16),
        url=_base_url(table, "url", table.text("url", "")),
        ready=_ready(table),
        ready_seconds=table.number("ready_seconds", 60, 1, 600),
        stop_signal=SIGNALS[stop],
        stop_seconds=table.number("stop_seconds", 15, 0.1, 600),
        can=table.choices("can", FAULTS, ()),
    )
    table.close()
    if "server" in spec.roles and not spec.url:
        raise table.error("", "url is missing: a server needs its base URL")
    return spec


def _ready(table: Table) -> Ready | None:
    inner = table.table("ready")
    found = [
        Ready(kind, inner.text(kind)) for kind in ("tcp", "http", "output") if kind in inner.values
    ]
    for kind in ("tcp", "http", "output"):
        inner.text(kind, "")
    inner.close()
    if len(found) > 1 or (not found and "ready" in table.values):
        raise table.error("ready", "must have one key: tcp, http or output")
    for ready in found:
        _check_ready(inner, ready)
    return found[0] if found else None


def _check_ready(table: Table, ready: Ready) -> None:
    match ready:
        case Ready("http", url) if not _FILLED_URL.fullmatch(url):
            raise table.error("http", f"must be a URL with http:// or https://, not {url!r}")
        case Ready("tcp", address) if not _ADDRESS.fullmatch(address):
            raise table.error("tcp", f"must have the form HOST:PORT, not {address!r}")
        case Ready("output", pattern):
            try:
                re.compile(pattern)
            except re.error as error:
                raise table.error("output", f"is not a regular expression: {error}") from None
        case _:
            pass


def _base_url(table: Table, name: str, url: str) -> str:
    if url and not _FILLED_URL.fullmatch(url):
        raise table.error(name, f"must be a URL with http:// or https://, not {url!r}")
    if url.rstrip("/").endswith("/responses"):
        raise table.error(name, f"must be the base URL, without /responses, not {url!r}")
    return url.rstrip("/")


def _url(table: Table, name: str) -> str:
    """Returns a URL, or the path of a document relative to the target file."""
    url = table.text(name)
    document = table.source.path.parent / url.partition("#")[0]
    if not _URL.fullmatch(url) and not document.is_file():
        raise table.error(
            name,
            "must be a URL with http:// or https://, or the path of an existing document relative "
            f"to this file, not {url!r}",
        )
    return url


def _check(table: Table, target: Target) -> None:
    """Checks the rules about several keys: names, placeholders and base URLs."""
    names = [spec.name for spec in target.processes]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise table.tables("process")[index].error("name", f"{name!r} is used twice")
    has_server = any("server" in spec.roles for spec in target.processes)
    if has_server == bool(target.urls):
        raise table.error("client", "needs urls, or a process with the role server; not both")
    if target.processes and not target.simulated:
        raise table.error("model", "a target with processes must use the simulated model")
    for index, spec in enumerate(target.processes):
        inner = table.tables("process")[index]
        texts = {
            "start": spec.start,
            "cwd": (spec.cwd,),
            "url": (spec.url,),
            "environment": tuple(spec.environment.values()),
            "ready": (spec.ready.value,) if spec.ready else (),
        }
        for key, values in texts.items():
            _check_placeholders(inner, key, values, target)
    _check_placeholders(table, "version", target.version, target)
    client = table.table("client")
    _check_placeholders(client, "api_key", (target.api_key,), target)
    _check_placeholders(client, "headers", tuple(target.headers.values()), target)
    setup = table.table("setup")
    for command in target.setup.commands:
        _check_placeholders(setup, "commands", command, target)


def _check_placeholders(table: Table, key: str, values: tuple[str, ...], target: Target) -> None:
    for value in values:
        for name, argument in PLACEHOLDER.findall(value):
            if name == "parameter" and argument in target.parameters:
                continue
            if name in {"port", "env"} and argument:
                continue
            if argument or name not in PLAIN:
                shown = f"{{{name}:{argument}}}" if argument else f"{{{name}}}"
                raise table.error(
                    key,
                    f"unknown placeholder {shown}; known: {{port}}, {{port:NAME}}, "
                    "{parameter:NAME}, {env:NAME} and "
                    + ", ".join(f"{{{one}}}" for one in PLAIN[1:]),
                )


def with_time_factor(target: Target, factor: float) -> Target:
    """Returns the target with longer limits, for a machine that is slow or busy."""
    limits = target.limits
    longer = Limits(
        limits.answer_seconds * factor,
        limits.recovery_seconds * factor,
        limits.cancel_seconds * factor,
        limits.stall_seconds,
    )
    processes = tuple(
        replace(spec, ready_seconds=spec.ready_seconds * factor) for spec in target.processes
    )
    return replace(target, limits=longer, processes=processes, time_factor=factor)
