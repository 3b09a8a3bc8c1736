"""Tests that `web/client.js` resumes in Node 22 and in a web worker after a lost connection."""

from __future__ import annotations

import asyncio
import json
import subprocess
from typing import Any

import pytest
from aiohttp import web

from tests.browser import NewPage, ServeApp, in_session_loop, needs_chromium
from tests.node import WEB_TESTS, node_22
from tests.paths.conftest import Shared
from tests.system import System, free_port


@pytest.mark.skipif(node_22() is None, reason="Node 22 is not installed: make check installs it")
async def test_the_web_client_resumes_in_node_22(shared: Shared) -> None:
    prompt = shared.prompt("mode=slow tokens=40 pace=0.02")
    process = await asyncio.create_subprocess_exec(
        str(node_22()),
        *(str(WEB_TESTS / "alone.mjs"), f"{shared.server.url}/v1/responses", prompt),
        stdout=subprocess.PIPE,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 40)
    assert 0 == process.returncode
    result: dict[str, Any] = json.loads(output)
    assert ("completed", True, 2) == (result["status"], result["verified"], result["sockets"])
    assert shared.answer_to(prompt) == result["text"].strip()


WORKER = """
import { HoldlineClient } from "%s/web/client.js";
const sockets = [];
class Cut extends WebSocket { constructor(...offer) { super(...offer); sockets.push(this); } }
onmessage = async ({ data }) => {
  const client = new HoldlineClient(data.url, { WebSocket: Cut });
  const handle = client.ask({ input: data.prompt });
  let cut = false;
  handle.addEventListener("change", () => {
    if (cut || !handle.answer.text.includes("t5 ")) return;
    cut = true;
    sockets[0].close();
  });
  const { text, status } = await handle.done;
  client.close();
  const page = typeof document;
  postMessage({ text, status, verified: handle.verified, sockets: sockets.length, page });
};
"""


@pytest.mark.browser
@in_session_loop
@needs_chromium
async def test_the_web_client_resumes_in_a_web_worker(
    shared: Shared, beside: System, open_page: NewPage, serve_app: ServeApp
) -> None:
    """The web worker runs on another site, on a page that does not use Holdline itself."""
    port = free_port()
    server = await beside.server(HOLDLINE_ALLOWED_ORIGINS=f"http://127.0.0.1:{port}")

    async def script(request: web.Request) -> web.Response:
        return web.Response(text=WORKER % server.url, content_type="text/javascript")

    async def page_of_site(request: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><title>A site</title>", content_type="text/html")

    app = web.Application()
    app.router.add_get("/worker.js", script)
    app.router.add_get("/{name:.*}", page_of_site)
    origin = await serve_app(app, port)
    page = await open_page(origin, None, server.url.split("/")[2])
    prompt = shared.prompt("mode=slow tokens=40 pace=0.02")
    result = await page.evaluate(
        """([url, prompt]) => {
          const worker = new Worker("/worker.js", { type: "module" });
          worker.postMessage({ url, prompt });
          return new Promise((resolve, reject) => {
            worker.onmessage = ({ data }) => resolve(data);
            worker.onerror = ({ message }) => reject(message);
          });
        }""",
        [f"{server.url}/v1/responses", prompt],
    )
    assert shared.answer_to(prompt) == result.pop("text").strip()
    assert result == {"status": "completed", "verified": True, "sockets": 2, "page": "undefined"}
