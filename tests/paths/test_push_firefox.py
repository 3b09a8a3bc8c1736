"""Tests pushes with a real Firefox, whose push service is simulated."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from openai import AsyncOpenAI

import holdline_client
from tests.fake_model import FakeModel
from tests.firefox import Firefox, needs_firefox
from tests.push_service import push_environ, push_service
from tests.system import System, free_port, wait_until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300), needs_firefox]

PREFERENCES: dict[str, bool | int | str] = {
    "dom.push.enabled": True,
    "dom.push.connection.enabled": True,
    "dom.push.testing.allowInsecureServerURL": True,
    "dom.webnotifications.requireuserinteraction": False,
    "permissions.default.desktop-notification": 1,
    "alerts.useSystemBackend": False,
}
PAGE = """<!doctype html><meta charset="utf-8"><title>Shop</title><script type="module">
  import * as push from "SERVER/web/push.js";
  window.push = push;
  window.options = {
    server: "SERVER/", serviceWorker: "/sw.js", tokenUrl: "/token", page: "/chat?answer={id}",
    tokenProvider: async () => (await fetch("/token")).text(),
    texts: { title: "Der Laden", body: "Die Antwort ist da.", lang: "de" },
  };
  window.heard = [];
  navigator.serviceWorker.addEventListener("message", ({ data }) => heard.push(data));
</script>"""

# Records what the service worker shows. A headless Firefox has no screen, so it closes each
# notification at once.
WATCH = """
const show = registration.showNotification.bind(registration);
registration.showNotification = async (title, options) => {
  const failed = await show(title, options).then(() => "", String);
  const cache = await caches.open("shown");
  await cache.put("/shown", new Response(JSON.stringify({ title, ...options, failed })));
};
"""


@asynccontextmanager
async def site(port: int, server: str, token: str) -> AsyncIterator[str]:
    """Serves a page, a service worker and a token on another origin than the server's."""
    files = {
        "/": ("text/html", PAGE.replace("SERVER", server)),
        "/sw.js": ("text/javascript", WATCH + f'importScripts("{server}/push-worker.js");'),
        "/token": ("text/plain", token),
    }

    async def serve(request: web.Request) -> web.Response:
        type_, text = files.get(request.path, ("text/html", "<!doctype html><title>x</title>"))
        return web.Response(text=text, content_type=type_)

    app = web.Application()
    app.router.add_get("/{name:.*}", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


@pytest.mark.heavy
async def test_firefox_shows_a_notification_unless_a_page_is_visible(
    system: System, tmp_path: Path
) -> None:
    port = free_port()
    system.environ |= push_environ(tmp_path) | {
        "HOLDLINE_JWT_KEYS": str(tmp_path / "signers"),
        "HOLDLINE_ALLOWED_ORIGINS": f"http://127.0.0.1:{port}",
    }
    signer = await system.add_signer()
    token = holdline_client.mint_token(signer, tenant="acme", subject="anna")
    async with FakeModel() as model, push_service() as service:
        server = await system.server()
        await system.worker(model.url)
        more = {**PREFERENCES, "dom.push.serverURL": service.websocket}
        client = AsyncOpenAI(base_url=f"{server.url}/v1", api_key=token, max_retries=0)
        async with site(port, server.url, token) as url, Firefox(more) as firefox, client:
            await firefox.goto(url)
            assert await firefox.run("() => push.renewPush(options)") is None
            enabled = await firefox.run("async () => (await push.enablePush(options)).id")
            again = await firefox.run("async () => (await push.renewPush(options)).id")
            assert enabled == again
            assert 1 == len(service.channels)

            seen = await client.responses.create(input="visible", model="m", background=True)
            await wait_until(lambda: len(service.acks) == 1, seconds=60)
            # Firefox confirms a push before its service worker has handled it.
            heard = await wait_until(lambda: firefox.run("() => heard"))
            assert [{"type": "holdline:push", "id": seen.id, "status": "completed"}] == heard

            await firefox.goto("about:blank")
            unseen = await client.responses.create(input="closed", model="m", background=True)
            await wait_until(lambda: len(service.acks) == 2, seconds=60)
            assert [] == [ack for ack in service.acks if ack["messageType"] == "nack"]
            await firefox.goto(url)
            found = "async () => (await caches.match('/shown'))?.json()"
            shown = await wait_until(lambda: firefox.run(found))
            assert ("Der Laden", "Die Antwort ist da.", unseen.id, "de", "") == tuple(
                shown[name] for name in ("title", "body", "tag", "lang", "failed")
            )

            await firefox.run("() => push.disablePush(options)")
            assert {} == service.channels
            assert await firefox.run("() => push.renewPush(options)") is None
