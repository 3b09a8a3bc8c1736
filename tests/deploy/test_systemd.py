"""Tests the units in `deploy/systemd`, in a real systemd where this machine can boot one."""

from __future__ import annotations

import base64
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobs.config.settings_table import SETTINGS
from runtime.command_line import INVALID_SETTINGS
from tests.deploy.booted import UNITS, Machine, booted, why_not
from tests.service_manager import Manager
from tests.system import ROOT, Process, free_port, start_process, wait_until

# A start takes seconds of processor time, on cores that are shared with other tests.
pytestmark = pytest.mark.timeout(180)
ENV_FILE = ROOT / "deploy/systemd/holdline.env"
DOCUMENT = (ROOT / "docs/install-systemd.md").read_text()
# A process ends at most this long after its shutdown delay and grace period.
STOP_SECONDS = 12
KEY = base64.b64encode(bytes(32)).decode()  # an encryption key

READY = "READY=1\nSTATUS=ready"

each_unit = pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
needs_systemd = pytest.mark.skipif(bool(why_not()), reason=why_not() or "never")
needs_analyze = pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed"
)


def options(unit: Path) -> dict[str, list[str]]:
    """Returns the values of each option of a unit."""
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", unit.read_text(), re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


def env_file() -> dict[str, str]:
    return dict(re.findall(r"^(\w+)=(.*)$", ENV_FILE.read_text(), re.MULTILINE))


def test_the_environment_file_contains_only_settings() -> None:
    assert set() == env_file().keys() - SETTINGS.keys()


@each_unit
def test_a_unit_gives_its_program_the_time_to_stop(unit: Path) -> None:
    environ, found = env_file(), options(unit)
    needed = STOP_SECONDS + sum(
        float(environ[f"HOLDLINE_SHUTDOWN_{name}_SECONDS"]) for name in ("DELAY", "GRACE")
    )
    [stop] = found["TimeoutStopSec"]
    assert needed <= float(stop.removesuffix("s"))
    assert ["mixed"] == found["KillMode"]


@each_unit
def test_a_unit_with_invalid_settings_is_not_started_again(unit: Path) -> None:
    assert [str(INVALID_SETTINGS)] == options(unit)["RestartPreventExitStatus"]


def test_the_units_have_the_same_restrictions() -> None:
    prefixes = ("Dynamic", "Private", "Protect", "Restrict", "System", "Cap", "No", "Memory")
    server, worker = (
        {name: values for name, values in options(unit).items() if name.startswith(prefixes)}
        for unit in UNITS
    )
    assert server == worker
    assert len(server) > 20


@needs_analyze
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    for unit in UNITS:
        written = re.sub(
            r"^ExecStart=\S+", "ExecStart=/bin/true", unit.read_text(), flags=re.MULTILINE
        )
        (tmp_path / unit.name).write_text(written)
    found = subprocess.run(
        ["systemd-analyze", "verify", *sorted(map(str, tmp_path.iterdir()))],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (0, "") == (found.returncode, found.stderr)


@needs_analyze
@each_unit
def test_the_exposure_of_a_unit_is_as_documented(unit: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    level = re.search(r"exposure level for \S+: ([\d.]+) OK", found.stdout)
    said = re.search(r"its score is ([\d.]+), where 0 is the best", DOCUMENT)
    assert level is not None, found.stdout + found.stderr
    assert said is not None
    # Other versions of systemd know other options.
    assert float(said[1]) == pytest.approx(float(level[1]), abs=0.5)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(str(tmp_path / "notify"))
    yield manager
    manager.close()


@pytest.mark.parametrize("processes", ["1", pytest.param("2", marks=pytest.mark.heavy)])
@each_unit
async def test_a_unit_runs_until_it_is_stopped(
    unit: Path, processes: str, manager: Manager, redis_url: str, tmp_path: Path
) -> None:
    """Runs the command of the unit with the environment file, as systemd would."""
    [start] = options(unit)["ExecStart"]
    environ = env_file() | {
        "REDIS_URL": redis_url,
        "OPENAI_API_KEY": "test",
        "HOLDLINE_PORT": str(free_port()),
        "HOLDLINE_WORKER_PORT": str(free_port()),
        "HOLDLINE_PROCESSES": processes,
        "NOTIFY_SOCKET": manager.address,
    }
    command = [sys.executable, "-m", "command", *start.split()[1:]]
    process = start_process(Process, unit.stem, command, tmp_path / "log", environ, ROOT)
    try:
        await wait_until(lambda: READY in manager.read() or process.popen.poll(), 60)
        assert READY in manager.received, process.output
        began = time.monotonic()
        process.signal(signal.SIGTERM)
        assert 0 == await process.wait(45), process.output
        assert time.monotonic() - began < 45
    finally:
        process.popen.kill()


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    environ = env_file() | {"OPENAI_API_KEY": "test", "HOLDLINE_SHUTDOWN_DELAY_SECONDS": "0"}
    with booted(tmp_path_factory.mktemp("booted"), environ) as machine:
        machine.systemctl("start", "redis-server")
        yield machine


def until(condition: Callable[[], object], machine: Machine) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, machine.log
        time.sleep(0.1)  # the polling interval


def ready(machine: Machine, port: int) -> bool:
    code = f"import urllib.request as r; r.urlopen('http://127.0.0.1:{port}/readyz', timeout=8)"
    return machine.run(sys.executable, "-c", code).returncode == 0


@pytest.mark.heavy
@needs_systemd
@pytest.mark.parametrize(("program", "port"), [("worker", 9100), ("server", 8080)])
class TestBooted:
    def test_a_started_unit_is_ready_and_is_nobody(
        self, machine: Machine, program: str, port: int
    ) -> None:
        unit = f"holdline-{program}"
        machine.systemctl("start", unit)
        assert ready(machine, port), machine.log
        pid = machine.value_of(unit, "MainPID")
        uid, groups, capabilities, no_new = (
            machine.run("grep", "-oP", rf"^{field}:\s*\K.*", f"/proc/{pid}/status").stdout
            for field in ("Uid", "Groups", "CapBnd", "NoNewPrivs")
        )
        # The users of DynamicUser=.
        assert 61_184 <= int(uid.split()[0]) <= 65_519
        assert (0, 1) == (int(capabilities, 16), int(no_new))
        assert "0" not in groups.split()
        machine.systemctl("stop", unit)
        assert "success" == machine.value_of(unit, "Result")
        assert "0" == machine.value_of(unit, "ExecMainStatus")

    def test_a_killed_unit_starts_again(self, machine: Machine, program: str, port: int) -> None:
        unit = f"holdline-{program}"
        machine.override(unit, "RestartSec=100ms\n")
        machine.systemctl("start", unit)
        machine.run("kill", "-9", machine.value_of(unit, "MainPID"))
        until(lambda: machine.value_of(unit, "NRestarts") == "1", machine)
        until(lambda: machine.value_of(unit, "ActiveState") == "active", machine)
        assert ready(machine, port)
        machine.systemctl("stop", unit)

    def test_a_unit_reads_a_file_of_its_group(
        self, machine: Machine, program: str, port: int
    ) -> None:
        """Types the commands of the documentation, and an encryption key as the file."""
        unit = f"holdline-{program}"
        [typed] = re.findall(r"```sh\n(groupadd .*?)```", DOCUMENT, re.DOTALL)
        [lines] = re.findall(r"\[Service\]\n(SupplementaryGroups=\S+\n)", DOCUMENT)
        written = f"cd /run && umask 077 && echo {KEY} > encryption-keys && "
        done = machine.run("sh", "-c", written + typed.replace("groupadd", "groupadd --force"))
        assert 0 == done.returncode, done.stderr
        path = "/etc/holdline-files/encryption-keys"
        machine.override(unit, f"{lines}Environment=HOLDLINE_ENCRYPTION_KEYS={path}\n")
        machine.systemctl("start", unit)
        assert ready(machine, port), machine.log
        machine.systemctl("stop", unit)
        machine.override(unit, "")
        machine.systemctl("restart", "redis-server")  # forgets that its data was encrypted

    @pytest.mark.heavy
    def test_a_unit_that_hangs_starts_again(
        self, machine: Machine, program: str, port: int
    ) -> None:
        unit = f"holdline-{program}"
        # Without the signal, because systemd would wait for a core dump of the suspended process.
        machine.override(unit, "RestartSec=100ms\nWatchdogSec=8s\nWatchdogSignal=SIGKILL\n")
        machine.systemctl("start", unit)
        # Longer than the time limit of the watchdog: a unit that works is left alone.
        time.sleep(10)  # two reports and more
        assert "0" == machine.value_of(unit, "NRestarts"), machine.log
        machine.run("kill", "-STOP", machine.value_of(unit, "MainPID"))
        until(lambda: machine.value_of(unit, "NRestarts") == "1", machine)
        until(lambda: machine.value_of(unit, "ActiveState") == "active", machine)
        assert ready(machine, port)
        machine.systemctl("stop", unit)
