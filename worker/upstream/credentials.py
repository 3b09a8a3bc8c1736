"""The key that a model's endpoint is called with: a setting, or one that is replaced while we run.

    a setting   the same as long as the process runs
    a file      read again when it has changed
    a command   run again before the key ends, and when the endpoint refuses it

A command is run once, whoever waits for it. While the key is still good, nobody waits: the key is
renewed in the background, and if that fails it goes on being used until it ends.

No key gets into a log. What a command writes to its standard error does, cut and without words
that may be keys, if the command has failed.
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
# A key is renewed this long before its end, or after four fifths of its time if that is sooner.
MARGIN_SECONDS: Final = 300.0
# A key whose end is not known is renewed after this time, and is good until it is refused.
UNKNOWN_SECONDS: Final = 300.0
# After a failure the source is left alone this long, and so are the jobs that need it.
PAUSE_SECONDS: Final = 10.0
_REMEMBERED: Final = 4
# Words of an error that may be keys: what follows a name of one, and whatever is long.
_SECRET: Final = re.compile(
    r"""(?i)(\b(?:bearer|basic)\s+|(?:token|key|secret|password|credential)["']?\s*[=:]\s*)\S+"""
    r"|\bsk-\S+|[\w+/=~.-]{20,}"
)
_WORD: Final = re.compile(r"""[^\s"',:{}\[\]]{4,}""")


class KeyUnavailable(Exception):
    """There is no key to call the endpoint with; the message is for the log and has no key."""


class Credential(Protocol):
    """The key of one endpoint."""

    async def key(self) -> str:
        """Returns the key to use now. Raises: KeyUnavailable."""
        ...

    async def renewed(self, refused: str) -> str | None:
        """Returns another key than the one that was refused, or None. Raises: KeyUnavailable."""
        ...

    async def close(self) -> None:
        """Ends what is running for the key."""
        ...


def credential_of(endpoint: Endpoint) -> Credential:
    """The credential that an endpoint's settings describe."""
    if endpoint.api_key_file:
        return FileKey(endpoint.name, endpoint.api_key_file)
    if endpoint.api_key_command:
        return CommandKey(endpoint.name, endpoint.api_key_command)
    return FixedKey(endpoint.api_key)


class FixedKey:
    """A key that is a setting."""

    def __init__(self, key: str) -> None:
        self._key = key

    async def key(self) -> str:
        return self._key

    async def renewed(self, refused: str) -> str | None:  # noqa: ARG002 - of the protocol
        return None

    async def close(self) -> None:
        pass


class FileKey:
    """The key in a file, which need not be there from the beginning."""

    def __init__(self, model: str, path: str) -> None:
        self._model = model
        self._path = path
        self._file: LiveFile[str] | None = None
        self._reported = -math.inf

    async def key(self) -> str:
        return self._read(at_once=False)

    async def renewed(self, refused: str) -> str | None:
        key = self._read(at_once=True)
        return None if key == refused else key

    async def close(self) -> None:
        pass

    def _read(self, *, at_once: bool) -> str:
        if self._file is not None:
            return self._file.get(at_once=at_once)
        try:
            self._file = LiveFile(self._path, lambda text: key_of(text, time.time()).key)
        except ValueError as error:
            now = time.monotonic()
            if now - self._reported >= PAUSE_SECONDS:
                self._reported = now
                log.error("model key unavailable", model=self._model, reason=f"file {error}")
            raise KeyUnavailable(f"api_key_file {error}") from None
        return self._file.get()


class CommandKey:
    """The key that a command prints. `close` it."""

    def __init__(self, model: str, command: tuple[str, ...]) -> None:
        self._model = model
        self._command = command
        self._key = ""
        self._renew_at = -math.inf
        self._ends_at = -math.inf
        self._running: asyncio.Task[None] | None = None
        self._failure = ""
        self._paused_until = -math.inf
        # A key that the endpoint refuses although the command goes on printing it.
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
        """Waits for a run that ends after now. Raises: KeyUnavailable."""
        if self._running is None and time.monotonic() < self._paused_until:
            raise KeyUnavailable(self._failure)
        # Others wait for the same run, so that the end of one of them must not end it.
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
        else:  # whether it has ended already is for the endpoint to say
            self._ends_at, self._renew_at = math.inf, now + UNKNOWN_SECONDS
        self._key = found.key

    async def _printed(self) -> KeyText:
        """Runs the command. Raises: KeyUnavailable, after a line in the log."""
        output, errors, status = b"", b"", None
        try:
            async with asyncio.timeout(COMMAND_SECONDS):
                output, errors, status = await _run(self._command)
            if status == 0:
                return key_of(output.decode(errors="replace"), time.time())
            reason = f"ended with status {status}"
        except TimeoutError:
            reason = f"took longer than {COMMAND_SECONDS:g} seconds"
        except OSError as error:
            reason = f"cannot be run: {type(error).__name__}"
        except ValueError as error:
            reason = f"printed what {error}"
        printed = _WORD.findall(output.decode(errors="replace"))
        log.error(
            "model key unavailable",
            model=self._model,
            reason=f"command {reason}",
            stderr=_without_keys(errors.decode(errors="replace"), [*self._known, *printed]),
            still_valid=time.monotonic() < self._ends_at,
        )
        raise KeyUnavailable(f"api_key_command {reason}")


async def _run(command: tuple[str, ...]) -> tuple[bytes, bytes, int]:
    """The output of a command, its errors, and its status.

    It is a group of processes of its own: the commands of clouds are scripts that start others, and
    all of them end when this is cancelled. Raises: OSError, ValueError.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    assert process.stderr is not None  # noqa: S101 - it is a pipe
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
        # What is left in the pipes has to be read before asyncio lets go of the process.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLEANUP_SECONDS):
                await process.communicate()


async def _read(stream: asyncio.StreamReader) -> bytes:
    content = b""
    while chunk := await stream.read(MAX_OUTPUT_BYTES):
        content += chunk
        if len(content) > MAX_OUTPUT_BYTES:
            raise ValueError(f"has more than {MAX_OUTPUT_BYTES} bytes")
    return content


def _without_keys(text: str, keys: Iterable[str]) -> str:
    for key in sorted(filter(None, keys), key=len, reverse=True):
        text = text.replace(key, "…")
    hidden = _SECRET.sub(lambda match: f"{match[1] or ''}…", text)
    return " ".join(hidden.split())[:MAX_LOGGED]
