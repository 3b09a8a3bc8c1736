"""A real WebKit, driven over WebDriver: WebKitGTK's MiniBrowser on a virtual screen."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from typing import Any, Self

import aiohttp
import pytest

from tests.browser import RECORD_ERRORS
from tests.system import free_port, wait_until

DRIVER, SCREEN = shutil.which("WebKitWebDriver"), shutil.which("Xvfb")
needs_webkit = pytest.mark.skipif(
    DRIVER is None or SCREEN is None,
    reason="WebKitGTK is not installed: apt install webkit2gtk-driver xvfb",
)
START_SECONDS = 60.0
# Draws without a graphics card, and does not wait for the services of a desktop.
ENVIRON = {"WEBKIT_DISABLE_COMPOSITING_MODE": "1", "NO_AT_BRIDGE": "1"}
CALL_SECONDS = 60.0
EXIT_SECONDS = 10.0
ENTER = "\ue007"
# Returns the last displayed element of the widget that a selector finds, or null.
FIND = """selector => [...document.querySelector("holdline-chat")?.shadowRoot
  ?.querySelectorAll(selector) ?? []].findLast(one => one.getClientRects().length > 0) ?? null"""
# Returns the position of the middle of this element in the window, or null.
MIDDLE = f"""selector => {{
  const found = ({FIND})(selector);
  found?.scrollIntoView({{ block: "nearest" }});
  const {{ x, y, width, height }} = found?.getBoundingClientRect() ?? {{}};
  return found && [Math.floor(x + width / 2), Math.floor(y + height / 2)];
}}"""


class WebKit:
    """A browser with one tab and an empty storage. It is an async context manager."""

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            display = await stack.enter_async_context(_screen())
            port = free_port()
            environ = {**os.environ, "DISPLAY": display, **ENVIRON}
            driver = await asyncio.create_subprocess_exec(
                str(DRIVER), f"--port={port}", env=environ, stdout=DEVNULL, stderr=DEVNULL
            )
            stack.push_async_callback(_end, driver)
            self._http = await stack.enter_async_context(
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(CALL_SECONDS))
            )
            self._url = f"http://127.0.0.1:{port}"
            await wait_until(self._listens, START_SECONDS)
            session = await self._call("POST", "/session", capabilities={})
            self._url += f"/session/{session['sessionId']}"
            stack.push_async_callback(self._call, "DELETE", "")
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def goto(self, url: str) -> None:
        await self._call("POST", "/url", url=url)
        await self.run(RECORD_ERRORS)

    async def reload(self) -> None:
        await self._call("POST", "/refresh")
        await self.run(RECORD_ERRORS)

    async def resize(self, width: int, height: int) -> None:
        await self._call("POST", "/window/rect", x=0, y=0, width=width, height=height)

    async def run(self, function: str, *values: Any) -> Any:
        """Calls a JavaScript function with JSON arguments and returns its JSON result."""
        script = f"""const [end, ...values] = [arguments[arguments.length - 1], ...arguments];
        Promise.resolve().then(() => ({function})(...values.slice(0, -1))).then(
          value => end({{ value: value ?? null }}), error => end({{ error: `${{error}}` }}))"""
        result = await self._call("POST", "/execute/async", script=script, args=[*values])
        assert "value" in result, result["error"]
        return result["value"]

    async def until(self, function: str, *values: Any, seconds: float = 30) -> Any:
        """Calls a JavaScript function until its result is truthy, and returns the result."""
        return await wait_until(lambda: self.run(function, *values), seconds)

    async def click(self, selector: str) -> None:
        """Clicks in the middle of the last displayed element of the widget that a selector finds.

        The command of WebDriver for a click refuses most elements in a shadow root.
        """
        x, y = await self.until(MIDDLE, selector)
        steps: list[dict[str, Any]] = [
            {"type": "pointerMove", "x": x, "y": y},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]
        await self._act(type="pointer", id="mouse", actions=steps)

    async def fill(self, selector: str, text: str) -> None:
        """Selects the text of a field of the widget, and types another one."""
        await self.click(selector)
        await self.run(f"selector => void ({FIND})(selector).select()", selector)
        await self.type(text)

    async def type(self, text: str) -> None:
        """Types a text into the focused element, with Enter for a newline."""
        keys = text.replace("\n", ENTER)
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        await self._act(type="key", id="keyboard", actions=actions)

    async def _act(self, **source: Any) -> None:
        await self._call("POST", "/actions", actions=[source])

    async def _listens(self) -> bool:
        try:
            return bool((await self._call("GET", "/status"))["ready"])
        except aiohttp.ClientConnectionError:
            return False

    async def _call(self, method: str, path: str, **fields: Any) -> Any:
        """Sends a command and returns its result."""
        body = fields if method == "POST" else None
        async with self._http.request(method, self._url + path, json=body) as reply:
            answer = json.loads(await reply.text())
        assert 200 == reply.status, answer
        return answer["value"]


@contextlib.asynccontextmanager
async def _screen() -> AsyncIterator[str]:
    """Runs an X server without a monitor, and yields the name of its display."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as pipe:
        try:
            server = await asyncio.create_subprocess_exec(
                str(SCREEN),
                *("-displayfd", str(writing), "-screen", "0", "1280x1024x24", "-nolisten", "tcp"),
                pass_fds=(writing,),
                stdout=DEVNULL,
                stderr=DEVNULL,
            )
        finally:
            os.close(writing)
        try:
            async with asyncio.timeout(START_SECONDS):
                number = await asyncio.to_thread(pipe.readline)
            assert number, "Xvfb exited before it had a display"
            yield f":{number.decode().strip()}"
        finally:
            await _end(server)


async def _end(process: Process) -> None:
    if process.returncode is None:
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), EXIT_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
