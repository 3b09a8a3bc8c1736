"""A real Firefox, driven directly over WebDriver BiDi."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import aiohttp
import pytest

from tests.browser import RECORD_ERRORS

FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")
needs_firefox = pytest.mark.skipif(
    FIREFOX is None, reason="firefox is not installed: apt install firefox-esr"
)
START_SECONDS = 60.0
ANSWER_SECONDS = 60.0
# Disables first-run prompts, downloads and telemetry.
PREFERENCES = {
    "app.normandy.enabled": False,
    "app.update.disabledForTesting": True,
    "browser.aboutwelcome.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "remote.active-protocols": 1,
    "security.remote_settings.crlite_filters.enabled": False,
    "services.settings.server": "data:,#remote-settings-dummy/v1",
    "toolkit.telemetry.reportingpolicy.firstRun": False,
}


class Firefox:
    """A browser with one tab. It is an async context manager. `more` are further preferences."""

    def __init__(self, more: Mapping[str, bool | int | str] | None = None) -> None:
        self._preferences = PREFERENCES | dict(more or {})
        self.console: list[str] = []
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            profile = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
            lines = [
                f"user_pref({json.dumps(k)}, {json.dumps(v)});"
                for k, v in self._preferences.items()
            ]
            (Path(profile) / "user.js").write_text("\n".join(lines))
            process = await asyncio.create_subprocess_exec(
                str(FIREFOX),
                *(
                    "--headless",
                    "--no-remote",
                    "--profile",
                    profile,
                    "--remote-debugging-port",
                    "0",
                ),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
            stack.push_async_callback(self._end, process)
            url = await asyncio.wait_for(self._address(process), START_SECONDS)
            http = await stack.enter_async_context(aiohttp.ClientSession())
            self._socket = await http.ws_connect(f"{url}/session", max_msg_size=0)
            stack.push_async_callback(self._socket.close)
            reader = asyncio.create_task(self._read(), name="bidi")
            stack.push_async_callback(_cancel, reader)
            await self.call("session.new", capabilities={})
            await self.call("session.subscribe", events=["log.entryAdded"])
            await self.call("script.addPreloadScript", functionDeclaration=RECORD_ERRORS)
            tree = await self.call("browsingContext.getTree")
            self.tab = tree["contexts"][0]["context"]
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Sends a command and returns its result."""
        number = next(self._ids)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params})
        answer = await asyncio.wait_for(future, ANSWER_SECONDS)
        assert "result" in answer, answer
        found: dict[str, Any] = answer["result"]
        return found

    async def goto(self, url: str) -> None:
        await self.call("browsingContext.navigate", context=self.tab, url=url, wait="complete")

    async def reload(self) -> None:
        await self.call("browsingContext.reload", context=self.tab, wait="complete")

    async def run(self, function: str, *values: str) -> Any:
        """Calls a JavaScript function with string arguments and returns its JSON result."""
        result = await self.call(
            "script.callFunction",
            functionDeclaration=f"async (...v) => JSON.stringify(await ({function})(...v) ?? null)",
            arguments=[{"type": "string", "value": value} for value in values],
            awaitPromise=True,
            target={"context": self.tab},
            userActivation=True,
        )
        assert "success" == result["type"], result
        return json.loads(result["result"]["value"])

    async def type(self, text: str) -> None:
        """Types a text into the focused element, with Enter for a newline."""
        keys = text.replace("\n", "\ue007")
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        source = {"type": "key", "id": "keyboard", "actions": actions}
        await self.call("input.performActions", context=self.tab, actions=[source])

    async def _read(self) -> None:
        async for message in self._socket:
            data = json.loads(message.data)
            if data.get("method") == "log.entryAdded":
                entry = data["params"]
                self.console.append(f"{entry['level']}: {entry['text']}")
            elif (future := self._waiting.pop(data.get("id"), None)) and not future.done():
                future.set_result(data)

    async def _address(self, process: asyncio.subprocess.Process) -> str:
        assert process.stderr is not None
        async for line in process.stderr:
            if found := re.search(rb"WebDriver BiDi listening on (ws://\S+)", line):
                self._drain = asyncio.create_task(
                    _discard_output(process.stderr), name="firefox output"
                )
                return found[1].decode()
        raise AssertionError("firefox exited before it listened")

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), 10)
            except TimeoutError:
                process.kill()
                await process.wait()
        if hasattr(self, "_drain"):
            await self._drain


async def _discard_output(stream: asyncio.StreamReader) -> None:
    while await stream.read(65_536):
        pass


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
