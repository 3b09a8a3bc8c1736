"""Boots a real systemd with Holdline's units, in namespaces and a control group of its own.

The machine is not changed: /etc, /opt, /run, /proc and the network are copies or empty, and only
the units of the test exist.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.deploy.installation import REDIS, first_child, install, no_namespaces
from tests.system import ROOT

SYSTEMD = Path("/lib/systemd/systemd")
UNITS = sorted((ROOT / "deploy/systemd").glob("*.service"))
BOOT_SECONDS = 30.0
STUB = "[Unit]\nDefaultDependencies=no\nAllowIsolate=yes\n"
TARGETS = ("default", "sysinit", "basic", "shutdown", "network-online", "multi-user")
REDIS_UNIT = f"""\
[Unit]
DefaultDependencies=no
[Service]
ExecStart=/opt/holdline/redis/{REDIS.name} --port 6379 --save "" --maxmemory-policy noeviction
"""
OUTPUT = "/run/output"  # of all units
BOOT = """\
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mount -t proc proc /proc
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
mount -t tmpfs tmpfs /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount --bind {log} /dev/kmsg
{install}
mount --bind {etc} /etc
export container=lxc SYSTEMD_UNIT_PATH={units}
exec {systemd} --system --log-level=info --log-target=kmsg --show-status=no
"""


def why_not() -> str:
    """Returns the reason why this machine cannot boot systemd in namespaces, or ""."""
    if not SYSTEMD.exists():
        return "systemd is not installed"
    if _control_groups() is None:
        return "there are no control groups of version 2"
    return no_namespaces()


def _control_groups() -> Path | None:
    """Returns the place where the control groups of version 2 are mounted."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(place)
    return None


class Machine:
    """A booted systemd, and the commands that run in it."""

    def __init__(self, folder: Path, pid: int) -> None:
        self._pid = pid
        self._log = folder / "kmsg"
        self.units = folder / "units"

    def run(self, *command: str, seconds: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Runs a command inside. Any exit status is accepted."""
        inside = ("nsenter", "-t", str(self._pid), "-m", "-p", "-n", "-u", "-i", "-C")
        return subprocess.run(
            [*inside, *command], capture_output=True, text=True, timeout=seconds, check=False
        )

    def systemctl(self, *arguments: str) -> str:
        """Runs `systemctl`, which must succeed, and returns its output."""
        done = self.run("systemctl", "--no-pager", *arguments)
        assert 0 == done.returncode, done.stdout + done.stderr + self.log
        return done.stdout.strip()

    def value_of(self, unit: str, name: str) -> str:
        """Returns a property of a unit, such as `ActiveState`."""
        return self.systemctl("show", "--value", f"--property={name}", unit)

    def override(self, unit: str, lines: str) -> None:
        """Changes a unit as `systemctl edit` does."""
        folder = self.units / f"{unit}.service.d"
        folder.mkdir(exist_ok=True)
        (folder / "override.conf").write_text(f"[Service]\n{lines}")
        self.systemctl("daemon-reload")

    @property
    def log(self) -> str:
        """What systemd and the units have logged."""
        output = self.run("cat", OUTPUT).stdout
        return self._log.read_text(errors="replace")[-4000:] + output[-4000:]


@contextlib.contextmanager
def booted(folder: Path, environ: dict[str, str]) -> Iterator[Machine]:
    """Boots systemd with Redis and the units, which are not started.

    The units read `environ` from /etc/holdline/holdline.env.
    """
    groups = _control_groups()
    assert groups is not None
    group = groups / f"holdline-test-{os.getpid()}"
    _fill(folder, environ)
    group.mkdir()
    script = folder / "boot.sh"
    script.write_text(
        BOOT.format(
            log=folder / "kmsg",
            install=install(folder / "opt"),
            etc=folder / "etc",
            units=folder / "units",
            systemd=SYSTEMD,
        )
    )
    space = "unshare --mount --pid --fork --net --uts --ipc --cgroup --kill-child"
    starter = f"echo $$ > {group}/cgroup.procs && exec {space} bash {script}"
    with (folder / "boot.log").open("wb") as output:
        process = subprocess.Popen(["bash", "-c", starter], stdout=output, stderr=output)
    try:
        yield Machine(folder, _first_child(process, folder))
    finally:
        process.kill()
        process.wait()
        _remove(group)


def _fill(folder: Path, environ: dict[str, str]) -> None:
    units = folder / "units"
    units.mkdir()
    for name in TARGETS:
        (units / f"{name}.target").write_text(STUB)
    (units / "redis-server.service").write_text(REDIS_UNIT)
    for unit in UNITS:
        shutil.copyfile(unit, units / unit.name)
    (folder / "kmsg").touch()
    shutil.copytree("/etc", folder / "etc", symlinks=True, ignore_dangling_symlinks=True)
    (units / "service.d").mkdir()
    (units / "service.d/output.conf").write_text(f"[Service]\nStandardOutput=append:{OUTPUT}\n")
    settings = folder / "etc/holdline"
    settings.mkdir(mode=0o700)
    written = "".join(f"{name}={value}\n" for name, value in environ.items())
    (settings / "holdline.env").write_text(written)
    (settings / "holdline.env").chmod(0o600)


def _first_child(process: subprocess.Popen[bytes], folder: Path) -> int:
    """Waits until systemd accepts commands, and returns its process id outside."""
    deadline = time.monotonic() + BOOT_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        pid = first_child(process.pid)
        if pid is not None:
            running = Machine(folder, pid).run("systemctl", "is-system-running").stdout.strip()
            if running in ("running", "degraded"):
                return pid
        time.sleep(0.1)  # the polling interval
    raise AssertionError((folder / "boot.log").read_text() + (folder / "kmsg").read_text())


def _remove(group: Path) -> None:
    """Removes a control group and those in it, after the kernel has reaped their processes."""
    deadline = time.monotonic() + 10
    while True:
        try:
            for path in sorted(group.rglob("*/"), reverse=True):
                path.rmdir()
            group.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)  # the polling interval
        else:
            return
