"""Tests that a client may send the results of calls that a restart has made void."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.fake_model import FakeModel
from tests.paths.sockets import TERMINAL, until
from tests.system import System

pytestmark = pytest.mark.timeout(120)

TOOLS = [{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": False}]


@pytest.mark.parametrize("way", ["stored", "unstored", "conversation"])
async def test_the_result_of_a_void_call_is_left_out_of_the_next_request(
    system: System, tmp_path: Path, way: str
) -> None:
    async with FakeModel() as model, aiohttp.ClientSession() as http:
        path = tmp_path / "models.toml"
        path.write_text(f'[models.r]\nbase_url = "{model.url}"\napi = "responses"\n')
        system.environ |= {"HOLDLINE_MODELS": str(path), "HOLDLINE_MODEL": "r"}
        server, _ = await asyncio.gather(system.server(), system.worker(model.url))
        async with http.ws_connect(server.ws_url) as ws:
            kept: dict[str, Any] = {"store": way != "unstored"}
            if way == "conversation":
                async with http.post(f"{server.url}/v1/conversations", json={}) as made:
                    kept["conversation"] = (await made.json())["id"]

            async def ask(*items: Any, **more: Any) -> dict[str, Any]:
                asked = {"input": items, "tools": TOOLS, **kept, **more}
                await ws.send_json({"type": "response.create", **asked})
                last = (await until(ws, *TERMINAL))[-1]
                assert "response.completed" == last["type"], last
                response: dict[str, Any] = last["response"]
                return response

            cut = await ask({"role": "user", "content": "mode=cutcall times=1"})
            assert ["call_0"] == cut["holdline"]["void_calls"]
            result = {"type": "function_call_output", "call_id": "call_0", "output": "failed"}
            said = {"role": "user", "content": "next"}
            follows = {} if way == "conversation" else {"previous_response_id": cut["id"]}
            await ask(result, said, **follows)
    assert ["mode=cutcall times=1"] * 2 + ["next"] == [call.prompt for call in model.calls]
    assert "call_0" not in json.dumps(model.calls[-1].body["input"])
