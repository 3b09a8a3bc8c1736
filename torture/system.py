"""The processes of a target, which the cases disturb."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import subprocess
from dataclasses import dataclass
from typing import Final

from torture.base_url import problem_of
from torture.errors import StartError
from torture.placeholders import Placeholders
from torture.process import Process, last_lines
from torture.target import ProcessSpec, Ready, Target
from torture.timeline import Timeline

# The time limit of the command that prints the version.
_VERSION_SECONDS: Final = 60


@dataclass
class Member:
    """An instance of a process of the target."""

    spec: ProcessSpec
    number: int
    process: Process
    ready: Ready | None
    url: str
    frozen: bool = False

    @property
    def name(self) -> str:
        """The name for reports, such as `server 2`."""
        return self.process.name


class System:
    """Starts the processes of a target, disturbs them, and restores them.

    Each fault is noted in the timeline of the current case.
    """

    def __init__(self, target: Target, placeholders: Placeholders) -> None:
        self.target = target
        self.placeholders = placeholders
        self.timeline = Timeline()
        self.members: list[Member] = []
        # Whether all processes have been ready at least once.
        self.started = False

    @property
    def urls(self) -> list[str]:
        """The base URLs of the servers."""
        return [m.url for m in self.with_role("server")] or list(self.target.urls)

    def with_role(self, role: str) -> list[Member]:
        """Returns the members with a role."""
        return [member for member in self.members if role in member.spec.roles]

    async def start(self) -> None:
        """Starts all processes in the order of the file. Each waits until the one before is ready.

        The instances of one process start together.

        Raises:
            StartError: a process cannot be started, or is not ready in time.
        """
        self.placeholders.folder.mkdir(parents=True, exist_ok=True)
        self.members = [
            self._member(spec, number)
            for spec in self.target.processes
            for number in range(1, spec.count + 1)
        ]
        try:
            await self._start_all()
            if not self.started:
                await self._check_urls()
        except StartError:
            await self.stop()
            self.members = []
            raise
        self.started = True

    async def _start_all(self) -> None:
        for spec in self.target.processes:
            members = [member for member in self.members if member.spec is spec]
            for member in members:
                member.process.start()
            for member in members:
                await member.process.wait_ready(member.ready, spec.ready_seconds)

    async def _check_urls(self) -> None:
        for url in self.urls:
            if problem := await problem_of(url.rstrip("/"), self.target.routes):
                raise StartError(problem)

    async def stop(self) -> None:
        """Kills all processes."""
        for member in reversed(self.members):
            await member.process.kill()

    async def healthy(self) -> bool:
        """Returns True if all processes run and are ready."""
        for member in self.members:
            if member.frozen or await member.process.unready(member.ready):
                return False
        return True

    def mark_output(self) -> None:
        """Marks the beginning of a case: `output` returns only later output."""
        for member in self.members:
            member.process.mark()

    def output(self) -> dict[str, list[str]]:
        """Returns the last lines that each process has printed since `mark_output`."""
        return {member.name: member.process.last_lines() for member in self.members}

    async def heal(self) -> None:
        """Continues frozen processes, starts those that have ended, and waits until all are ready.

        Raises:
            StartError: a process cannot be started, or is not ready in time.
        """
        for member in self.members:
            if member.frozen:
                self.thaw(member)
            if not member.process.running:
                await self.start_again(member)
        for member in self.members:
            await member.process.wait_ready(member.ready, member.spec.ready_seconds)

    async def kill(self, member: Member) -> None:
        """Kills a process with SIGKILL."""
        self.timeline.add(member.name, "fault", "killed")
        await member.process.kill()

    def freeze(self, member: Member) -> None:
        """Pauses a process, as a suspended virtual machine is paused."""
        self.timeline.add(member.name, "fault", "frozen")
        member.frozen = True
        member.process.send(signal.SIGSTOP)

    def thaw(self, member: Member) -> None:
        """Continues a frozen process."""
        self.timeline.add(member.name, "fault", "continues")
        member.frozen = False
        member.process.send(signal.SIGCONT)

    async def stop_gracefully(self, member: Member) -> None:
        """Asks a process to stop, as a deployment does, and kills it after its grace period."""
        self.timeline.add(member.name, "fault", f"asked to stop ({member.spec.stop_signal.name})")
        in_time = await member.process.stop(member.spec.stop_signal, member.spec.stop_seconds)
        outcome = f"ended with status {member.process.status}" if in_time else "killed: too slow"
        self.timeline.add(member.name, "fault", outcome)

    async def start_again(self, member: Member) -> None:
        """Starts a process that has ended, and waits until it is ready."""
        member.process.start()
        await member.process.wait_ready(member.ready, member.spec.ready_seconds)
        self.timeline.add(member.name, "fault", "started again")

    async def install(self) -> None:
        """Runs the setup commands, if they or their files have changed since the last time.

        Raises:
            StartError: a command has failed or took too long.
        """
        setup = self.target.setup
        if not setup.commands:
            return
        folder = self.target.path.parent
        digest = hashlib.sha256(json.dumps(setup.commands).encode())
        for name in setup.files:
            try:
                digest.update((folder / name).read_bytes())
            except OSError as error:
                raise StartError(f"setup.files: {name} cannot be read: {error.strerror}") from None
        stamp = self.placeholders.install / "installed"
        if stamp.exists() and stamp.read_text() == digest.hexdigest():
            return
        self.placeholders.install.mkdir(parents=True, exist_ok=True)
        for command in setup.commands:
            await self._run([self.placeholders.fill(word) for word in command], setup.seconds)
        stamp.write_text(digest.hexdigest())

    async def version(self) -> str:
        """Returns the first line that the version command prints, or "" without a command."""
        if not self.target.version:
            return ""
        words = [self.placeholders.fill(word) for word in self.target.version]
        return (await self._run(words, _VERSION_SECONDS)).strip().partition("\n")[0]

    async def _run(self, argv: list[str], seconds: float) -> str:
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                cwd=self.target.path.parent,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise StartError(f"{argv[0]} cannot be run: {error}") from None
        try:
            async with asyncio.timeout(seconds):
                output, _ = await process.communicate()
        except TimeoutError:
            raise StartError(f"{' '.join(argv)} took longer than {seconds:g} s") from None
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        text = output.decode(errors="replace")
        if process.returncode:
            raise StartError(
                "\n".join([f"{' '.join(argv)} failed; its last output:", *last_lines(text)])
            )
        return text

    def _member(self, spec: ProcessSpec, number: int) -> Member:
        def fill(text: str) -> str:
            return self.placeholders.fill(text, spec.name, number)

        name = spec.name if spec.count == 1 else f"{spec.name} {number}"
        cwd = self.target.path.parent / fill(spec.cwd)
        environment = {key: fill(value) for key, value in spec.environment.items()}
        output = self.placeholders.folder / f"{spec.name}-{number}.log"
        argv = [fill(word) for word in spec.start]
        ready = Ready(spec.ready.kind, fill(spec.ready.value)) if spec.ready else None
        process = Process(name, argv, cwd, environment, output)
        return Member(spec, number, process, ready, fill(spec.url).rstrip("/"))
