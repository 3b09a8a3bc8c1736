"""Builds the image with buildah, and runs it with podman, in a store of its own."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

from tests.system import ROOT, clean_environ

PROGRAMS: Final = ("buildah", "mmdebstrap", "podman", "runc")
BUILD_SECONDS: Final = 1500
RUN_SECONDS: Final = 60
# With this time, two builds have the same times.
EPOCH: Final = "1767225600"
# The base in the place of `python:3.13-slim-trixie`, which no test can download.
PACKAGES: Final = "python3,python3-venv,ca-certificates"
# What pip needs to reach its index from inside of a build, if this machine has it.
PIP_FILES: Final = ("/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt")


def unavailable() -> str:
    """Returns why images cannot be built and run on this machine, or ""."""
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        return f"not installed: apt install {' '.join(missing)}"
    return "" if os.geteuid() == 0 else "only root can build and run images"


class Containers:
    """A store of images and containers in a folder, which `close` removes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        config = folder / "storage.conf"
        config.write_text(
            '[storage]\ndriver = "overlay"\n'
            f'graphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n'
        )
        self._environ = clean_environ() | {
            "CONTAINERS_STORAGE_CONF": str(config),
            "BUILDAH_ISOLATION": "chroot",
            "SOURCE_DATE_EPOCH": EPOCH,
        }

    def close(self) -> None:
        self.podman("system", "reset", "--force")

    def run(self, *command: str, seconds: float = RUN_SECONDS) -> str:
        """Runs a command, which must succeed, and returns its output."""
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=self._environ,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert 0 == done.returncode, done.stdout + done.stderr
        return done.stdout

    def podman(self, *arguments: str) -> str:
        return self.run(*self.command(*arguments)).strip()

    @staticmethod
    def command(*arguments: str) -> tuple[str, ...]:
        return ("podman", "--cgroup-manager", "cgroupfs", "--runtime", "runc", *arguments)

    def inspect(self, name: str) -> dict[str, Any]:
        """Returns the description of an image or a container."""
        [found] = json.loads(self.podman("inspect", name))
        assert isinstance(found, dict)
        return found

    def build_base(self, tag: str) -> str:
        """Makes a base image of the packages of this Debian and returns its id."""
        archive = self._folder / "base.tar"
        sources = [
            str(path)
            for path in map(
                Path, ("/etc/apt/sources.list", "/etc/apt/sources.list.d/debian.sources")
            )
            if path.exists()
        ]
        self.run(
            *("mmdebstrap", "--quiet", "--mode=root", "--variant=essential"),
            *(f"--include={PACKAGES}", platform.freedesktop_os_release()["VERSION_CODENAME"]),
            *(str(archive), *sources),
            seconds=BUILD_SECONDS,
        )
        (self._folder / "Containerfile").write_text("FROM scratch\nADD base.tar /\n")
        self.run(
            *("buildah", "build", "--quiet", "--timestamp", EPOCH, "--tag", tag, str(self._folder)),
            seconds=BUILD_SECONDS,
        )
        archive.unlink()
        return str(self.inspect(tag)["Id"])

    def build(self, base: str, tag: str) -> str:
        """Builds the image with `make image`, and returns its digest in the format of the OCI.

        In Docker's format, an image also has the random name of the container that built it.
        """
        volumes = [f"--volume {path}:{path}:ro" for path in PIP_FILES if Path(path).exists()]
        options = " ".join([*volumes, "--no-cache", "--pull-never", f"--tag {tag}"])
        self.run(
            *("make", "image", "CONTAINER=buildah", f"BASE={base}", f"ARGS={options}"),
            seconds=BUILD_SECONDS,
        )
        exported = self._folder / "exported"
        self.run("buildah", "push", "--quiet", tag, f"oci:{exported}", seconds=BUILD_SECONDS)
        [manifest] = json.loads((exported / "index.json").read_text())["manifests"]
        shutil.rmtree(exported)
        return str(manifest["digest"])

    def start(self, name: str, image: str, *arguments: str, **options: Any) -> Container:
        """Starts a container in the network of this machine, and does not wait for its program.

        The root is read-only, without any place to write, unless `writable` is true. `environ`
        contains environment variables, and `flags` further options of `podman run`.
        """
        environ: dict[str, str] = options.get("environ", {})
        self.podman(
            *("run", "--detach", "--name", name, "--network", "host"),
            *("--cap-drop", "all", "--security-opt", "no-new-privileges"),
            # Without systemd, podman cannot repeat the check. The tests run it.
            *("--health-interval", "disable"),
            # In some containers, root may not raise the limits, as podman would by default.
            *("--ulimit=nofile=4096:4096", "--ulimit=nproc=1024:1024"),
            *(() if options.get("writable") else ("--read-only", "--read-only-tmpfs=false")),
            *(f"--env={variable}={value}" for variable, value in environ.items()),
            *(*options.get("flags", ()), image, *arguments),
        )
        return Container(self, name)


class Container:
    """A container that was started, and may have ended."""

    def __init__(self, containers: Containers, name: str) -> None:
        self.name = name
        self._containers = containers

    @property
    def state(self) -> dict[str, Any]:
        state = self._containers.inspect(self.name)["State"]
        assert isinstance(state, dict)
        return state

    @property
    def output(self) -> str:
        """Returns the output of the program so far, including errors."""
        command = self._containers.command("logs", self.name)
        return self._containers.run("sh", "-c", 'exec "$@" 2>&1', "sh", *command)

    async def exec(self, *command: str) -> int:
        """Runs a command in the container and returns its exit status."""
        return await self._status("exec", self.name, *command)

    async def health(self) -> int:
        """Runs the health check of the image and returns its exit status."""
        return await self._status("healthcheck", "run", self.name)

    async def stop(self, seconds: int) -> None:
        """Stops the container as Docker does: with SIGTERM, and after `seconds` with SIGKILL."""
        await asyncio.to_thread(self._containers.podman, "stop", "--time", str(seconds), self.name)

    async def _status(self, *arguments: str) -> int:
        process = await asyncio.create_subprocess_exec(
            *self._containers.command(*arguments),
            env=self._containers._environ,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        return await asyncio.wait_for(process.wait(), RUN_SECONDS)
