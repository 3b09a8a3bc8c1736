"""Provides the API key of a model's endpoint. A key comes from one of three sources:

    a setting   the key stays the same while the process runs
    a file      the worker reads the file again when it changes
    a command   the worker runs the command again before the key expires, and when the endpoint
                refuses the key

Concurrent model calls share one run of the command. The worker renews a valid key in the
background, so no model call waits for the command. If the renewal fails, the worker uses the old
key until it expires.

Keys are never logged. If the command fails, its standard error is logged in shortened form, without
words that may be keys.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import re
import signal
import time
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from runtime.watched_file import LiveFile

from .key_text import KeyText, key_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.config import Endpoint

log = structlog.get_logger()

COMMAND_SECONDS: Final = 30.0
CLEANUP_SECONDS: Final = 1.0
MAX_OUTPUT_BYTES: Final = 65_536
MAX_LOGGED: Final = 500
# The worker renews a key this long before it expires, or after four fifths of its lifetime if that
# time is later.
MARGIN_SECONDS: Final = 300.0
# If the expiry of a key is unknown, the worker renews the key after this time, and uses it until
# the endpoint refuses it.
UNKNOWN_SECONDS: Final = 300.0
# After a failure to get a key, the worker waits this long before it reads the source again. Jobs
# that need the key are delayed.
PAUSE_SECONDS: Final = 10.0
_REMEMBERED: Final = 4
# Words in an error message that may be keys: a word after a name such as "token", and any long
# word.
_SECRET: Final = re.compile(
    r"""(?i)(\b(?:bearer|basic)\s+|(?:token|key|secret|password|credential)["']?\s*[=:]\s*)\S+"""
    r"|\bsk-\S+|[\w+/=~.-]{20,}"
)
_WORD: Final = re.compile(r"""[^\s"',:{}\[\]]{4,}""")


class KeyUnavailable(Exception):
    """There is no API key for the endpoint.

    The error message is for the log and does not contain a key.
    """


class Credential(Protocol):
    """A source of the API key of one endpoint.

    `expires_at` is the end of the current key in Unix seconds, or None if it is unknown. `failures`
    counts the failed attempts to get a key.
    """

    @property
    def expires_at(self) -> float | None: ...
    @property
    def failures(self) -> int: ...

    async def key(self) -> str:
        """Returns the current API key.

        Raises: KeyUnavailable.
        """
        ...

    async def renewed(self, refused: str) -> str | None:
        """Returns a new key after the endpoint has refused one, or None if there is no new key.

        Raises: KeyUnavailable.
        """
        ...

    async def close(self) -> None:
        """Stops the command that prints the key, if it is running."""
        ...


def credential_of(endpoint: Endpoint) -> Credential:
    """Returns the credential for an endpoint's settings."""
    if endpoint.api_key_file:
        return FileKey(endpoint.name, endpoint.api_key_file)
    if endpoint.api_key_command:
        return CommandKey(endpoint.name, endpoint.api_key_command)
    return FixedKey(endpoint.api_key)


class FixedKey:
    """An API key from a setting. It never changes."""

    expires_at: float | None = None
    failures = 0

    def __init__(self, key: str) -> None:
        self._key = key

    async def key(self) -> str:
        return self._key

    async def renewed(self, refused: str) -> str | None:  # noqa: ARG002 - the protocol has it
        return None

    async def close(self) -> None:
        pass


class FileKey:
    """An API key from a file. The file may be created after the start of the worker."""

    def __init__(self, model: str, path: str) -> None:
        self._model = model
        self._path = path
        self._file: LiveFile[KeyText] | None = None
        self._reported = -math.inf
        self.failures = 0

    @property
    def expires_at(self) -> float | None:
        return None if self._file is None else self._file.get().ends_at

    async def key(self) -> str:
        return self._read(at_once=False)

    async def renewed(self, refused: str) -> str | None:
        key = self._read(at_once=True)
        return None if key == refused else key

    async def close(self) -> None:
        pass

    def _read(self, *, at_once: bool) -> str:
        if self._file is not None:
            return self._file.get(at_once=at_once).key
        try:
            self._file = LiveFile(self._path, lambda text: key_of(text, time.time()))
        except ValueError as error:
            self.failures += 1
            now = time.monotonic()
            if now - self._reported >= PAUSE_SECONDS:
                self._reported = now
                log.error(
                    "failed to get the API key of a model",
                    model=self._model,
                    reason=f"api_key_file: {error}",
                )
            raise KeyUnavailable(f"api_key_file: {error}") from None
        return self._file.get().key


class CommandKey:
    """An API key from the output of a command. The owner of this object must call `close`."""

    def __init__(self, model: str, command: tuple[str, ...]) -> None:
        self._model = model
        self._command = command
        self._key = ""
        self.expires_at: float | None = None
        self.failures = 0
        self._renew_at = -math.inf
        self._ends_at = -math.inf
        self._running: asyncio.Task[None] | None = None
        self._failure = ""
        self._paused_until = -math.inf
        # A key that the endpoint has refused, but that the command still prints.
        self._hopeless = ""
        self._hopeless_until = -math.inf
        self._known: deque[str] = deque(maxlen=_REMEMBERED)

    async def key(self) -> str:
        now = time.monotonic()
        if now >= self._ends_at:
            await self._renew()
        elif now >= self._renew_at and now >= self._paused_until:
            self._start()
        return self._key

    async def renewed(self, refused: str) -> str | None:
        if self._key == refused:
            now = time.monotonic()
            if self._hopeless == refused and now < self._hopeless_until:
                return None
            await self._renew()
        if self._key != refused:
            return self._key
        self._hopeless, self._hopeless_until = refused, time.monotonic() + PAUSE_SECONDS
        return None

    async def close(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    async def _renew(self) -> None:
        """Waits for the current run of the command, or starts a new run and waits for it.

        Raises: KeyUnavailable.
        """
        if self._running is None and time.monotonic() < self._paused_until:
            raise KeyUnavailable(self._failure)
        # Other tasks may wait for the same run of the command, so cancelling this task must not
        # cancel the run.
        self._start()
        if self._running is not None:
            await asyncio.shield(self._running)
        if self._failure:
            raise KeyUnavailable(self._failure)

    def _start(self) -> None:
        if self._running is None:
            self._running = asyncio.create_task(self._run(), name="key command")

    async def _run(self) -> None:
        try:
            found, self._failure = await self._printed(), ""
        except KeyUnavailable as error:
            self._failure = str(error)
            self.failures += 1
            self._paused_until = time.monotonic() + PAUSE_SECONDS
            return
        finally:
            self._running = None
        self._known.append(found.key)
        now = time.monotonic()
        left = math.inf if found.ends_at is None else found.ends_at - time.time()
        if 0 < left < math.inf:
            self._ends_at = now + left
            self._renew_at = now + max(left - MARGIN_SECONDS, left * 0.8)
        # The expiry is unknown or in the past, so the endpoint decides whether the key is still
        # valid.
        else:
            self._ends_at, self._renew_at = math.inf, now + UNKNOWN_SECONDS
        self._key, self.expires_at = found.key, found.ends_at

    async def _printed(self) -> KeyText:
        """Runs the command and returns the API key that it prints.

        Raises: KeyUnavailable, after logging the failure.
        """
        output, errors, status = b"", b"", None
        try:
            async with asyncio.timeout(COMMAND_SECONDS):
                output, errors, status = await _run(self._command)
            if status == 0:
                return key_of(output.decode(errors="replace"), time.time())
            reason = f"exited with status {status}"
        except TimeoutError:
            reason = f"took longer than {COMMAND_SECONDS:g} seconds"
        except OSError as error:
            reason = f"cannot be run: {type(error).__name__}"
        except ValueError as error:
            reason = f"printed an invalid key: {error}"
        printed = _WORD.findall(output.decode(errors="replace"))
        reason = f"api_key_command {reason}"
        stderr = _without_keys(errors.decode(errors="replace"), [*self._known, *printed])
        log.error(
            "failed to get the API key of a model",
            model=self._model,
            reason=f"{reason}: {stderr}" if stderr else reason,
            still_valid=time.monotonic() < self._ends_at,
        )
        raise KeyUnavailable(reason)


async def _run(command: tuple[str, ...]) -> tuple[bytes, bytes, int]:
    """Runs a command and returns its standard output, its standard error and its exit status.

    The command runs in its own process group, because the command-line tools of clouds are often
    scripts that start other processes. If this coroutine fails or is cancelled, it kills the whole
    group.

    Raises: OSError; ValueError if the command prints more than `MAX_OUTPUT_BYTES`.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None  # noqa: S101 - stdout is a pipe
    assert process.stderr is not None  # noqa: S101 - stderr is a pipe
    readers = [asyncio.create_task(_read(one)) for one in (process.stdout, process.stderr)]
    try:
        output, errors = await asyncio.gather(*readers)
        return output, errors, await process.wait()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        # asyncio releases the process only after all output in its pipes has been read.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLEANUP_SECONDS):
                await process.communicate()


async def _read(stream: asyncio.StreamReader) -> bytes:
    content = b""
    while chunk := await stream.read(MAX_OUTPUT_BYTES):
        content += chunk
        if len(content) > MAX_OUTPUT_BYTES:
            raise ValueError(f"the output has more than {MAX_OUTPUT_BYTES} bytes")
    return content


def _without_keys(text: str, keys: Iterable[str]) -> str:
    for key in sorted(filter(None, keys), key=len, reverse=True):
        text = text.replace(key, "…")
    hidden = _SECRET.sub(lambda match: f"{match[1] or ''}…", text)
    return " ".join(hidden.split())[:MAX_LOGGED]
