"""Runs the proxy configurations in `deploy/`, with only their ports and folders changed."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.system import ROOT, free_port, wait_until

PROXIES = {"nginx": "nginx.conf", "caddy": "Caddyfile"}


def command(proxy: str, folder: Path, config: Path) -> list[str]:
    if proxy == "nginx":
        log = folder / "nginx.log"
        options = f"daemon off; pid {folder}/pid; error_log {log} warn;"
        return ["nginx", "-p", str(folder), "-c", str(config), "-g", options, "-e", str(log)]
    return ["caddy", "run", "--config", str(config), "--adapter", "caddyfile"]


@contextlib.asynccontextmanager
async def run_proxy(
    proxy: str, port: int, folder: Path, second: int | None = None
) -> AsyncIterator[str]:
    """Starts a proxy in front of the servers at one or two ports and returns its URL."""
    if shutil.which(proxy) is None:
        pytest.skip(f"{proxy} is not installed")
    front = free_port()
    text = (ROOT / "deploy" / PROXIES[proxy]).read_text()
    assert "8443" in text
    assert "127.0.0.1:8080" in text
    one, two = "127.0.0.1:8080", "127.0.0.1:8081"
    text = text.replace("8443", str(front))
    if second is not None:
        assert two in text
        for word in ("server", "to"):
            text = text.replace(f"# {word} {two}", f"{word} 127.0.0.1:{second}")
    text = text.replace(one, f"127.0.0.1:{port}")
    if proxy == "nginx":  # nginx's default folders for temporary files and logs belong to root
        places = "".join(
            f"{kind}_temp_path {folder}/{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        text = text.replace("http {\n", f"http {{\naccess_log off;\n{places}", 1)
    config = folder / PROXIES[proxy]
    config.write_text(text)
    with (folder / "log").open("wb") as output:
        process = subprocess.Popen(
            command(proxy, folder, config),
            stdout=output,
            stderr=output,
            env={"PATH": "/usr/sbin:/usr/bin:/bin", "HOME": str(folder)},
        )
    url = f"http://127.0.0.1:{front}/chat"
    try:
        async with aiohttp.ClientSession() as http:

            async def is_up() -> bool:
                assert process.poll() is None, (folder / "log").read_text()
                # The proxy may not be listening yet.
                with contextlib.suppress(aiohttp.ClientConnectorError):
                    async with http.get(f"{url}/livez") as answer:
                        return answer.status == 200
                return False

            await wait_until(is_up)
        yield url
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 10)
