"""Tests each tenant limit, the error when it is exceeded, and the header that states it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientWebSocketResponse

from jobs.record import Status
from jobs.redis.pipe import Pipe
from jobs.tenants import Tenants
from server.api.problem import STANDARD_CODES
from server.app import SERVER
from tests.error_codes import own_code
from tests.jobs.factories import NAMES
from tests.server.auth_helpers import Credentials
from tests.server.conftest import Client, Serve
from tests.server.factories import Worker
from tests.system import EXTENSIONS, wait_until

UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}
BODY = {"input": "Why?", "background": True}


async def ask(client: Client, **more: Any) -> tuple[int, dict[str, Any], Any]:
    response = await client.post("/v1/responses", json=BODY | more)
    return response.status, await response.json(), response.headers


# Maps each error code to the header that states the exceeded limit. The socket limit is tested
# separately below.
STATED = {
    "rate_limit_exceeded": "X-RateLimit-Limit-Requests",
    "waiting_limit_exceeded": "X-RateLimit-Limit-Waiting",
    "input_tokens_exceeded": "X-RateLimit-Limit-Input-Tokens",
    "token_budget_exceeded": "X-RateLimit-Limit-Tokens",
    "money_budget_exceeded": "X-RateLimit-Limit-Money",
    "queue_full": "X-RateLimit-Limit-Queue",
}


async def refused(client: Client, code: str, limit: float, status: int = 429, **more: Any) -> int:
    """Checks that a request is refused, and returns the seconds to wait before the next request."""
    found, body, headers = await ask(client, **more)
    assert (status, code) == (found, own_code(body["error"])), body
    assert STANDARD_CODES.get(code, code) == body["error"]["code"]
    assert f"{limit:g}" == headers[STATED[code]]
    assert (body["error"]["code"] == "insufficient_quota") == ("X-Should-Retry" in headers)
    return int(headers.get("Retry-After", 0))


async def test_requests_per_minute_are_limited(serve: Serve, pipe: Pipe) -> None:
    client = await serve(tenant_requests_per_minute="3")
    for left in (2, 1, 0):
        status, _, headers = await ask(client)
        assert (200, "3") == (status, headers["X-RateLimit-Limit-Requests"])
        assert str(left) == headers["X-RateLimit-Remaining-Requests"]
    assert 18 <= await refused(client, "rate_limit_exceeded", 3) <= 20
    # A refused request consumes nothing, so the bucket keeps refilling.
    await pipe.call("HINCRBY", NAMES.rate("public"), "at", -20_000)
    assert 200 == (await ask(client))[0]
    await refused(client, "rate_limit_exceeded", 3)


async def test_a_repeated_idempotency_key_does_not_count_against_the_limit(serve: Serve) -> None:
    client = await serve(tenant_requests_per_minute="1")
    ids = {(await ask(client, idempotency_key="k"))[1]["id"] for _ in range(3)}
    assert 1 == len(ids)


async def test_the_waiting_prompts_of_a_tenant_are_limited(serve: Serve, pipe: Pipe) -> None:
    client = await serve(tenant_waiting="2")
    first = (await ask(client))[1]["id"]
    await ask(client)
    assert 5 == await refused(client, "waiting_limit_exceeded", 2)
    await client.post(f"/v1/responses/{first}/cancel")
    assert 200 == (await ask(client))[0]
    await refused(client, "waiting_limit_exceeded", 2)
    await Tenants(pipe, range(1)).set("public", {"waiting": "3"})
    assert 200 == (await ask(client))[0]


async def test_the_waiting_prompts_of_all_tenants_are_limited(serve: Serve) -> None:
    client = await serve(max_waiting="2")
    for _ in range(2):
        assert 200 == (await ask(client))[0]
    assert 5 == await refused(client, "queue_full", 2)


async def test_input_tokens_are_limited(serve: Serve) -> None:
    client = await serve(max_input_tokens="100")
    assert 200 == (await ask(client))[0]
    await refused(client, "input_tokens_exceeded", 100, 400, input="x" * 1000)


async def test_tokens_per_day_include_estimates_of_running_requests(
    serve: Serve, pipe: Pipe
) -> None:
    client = await serve(tenant_tokens_per_day="1200")
    first, second = [(await ask(client, max_output_tokens=500)) for _ in range(2)]
    assert "1200" == second[2]["X-RateLimit-Limit-Tokens"]
    left = int(second[2]["X-RateLimit-Remaining-Tokens"])
    assert 0 < left < 200
    assert 0 < await refused(client, "token_budget_exceeded", 1200) <= 86_400
    # Ending a request before any model call returns the tokens that were reserved for it.
    await client.post(f"/v1/responses/{first[1]['id']}/cancel")
    assert 200 == (await ask(client))[0]
    await client.delete(f"/v1/responses/{second[1]['id']}")
    usage = await Tenants(pipe, range(1)).usage("public")
    assert 500 < usage.tokens < 600


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.FAILED])
async def test_a_count_of_input_tokens_reserves_and_uses_almost_no_tokens(
    serve: Serve, worker: Worker, pipe: Pipe, tmp_path: Path, status: Status
) -> None:
    path = tmp_path / "models.toml"
    path.write_text('[models.r]\nbase_url = "http://x/v1"\napi = "responses"\n')
    client = await serve(models=str(path), model="", tenant_tokens_per_day="1200")
    body = {"model": "r", "input": "x" * 8000}
    counting = asyncio.create_task(client.post("/v1/responses/input_tokens", json=body))
    await (await worker.take()).complete(status)
    counted = await (await counting).json()
    assert {"estimated": True} == counted["holdline"]
    assert 2000 < counted["input_tokens"] < 2100
    assert 1 >= (await Tenants(pipe, range(1)).usage("public")).tokens


async def test_the_cost_per_day_is_computed_from_the_price_of_the_model(
    serve: Serve, pipe: Pipe, tmp_path: Path
) -> None:
    path = tmp_path / "models.toml"
    path.write_text(
        '[models.dear]\nbase_url = "http://x/v1"\nprice = { input = 0, output = 1000 }\n'
        '[models.free]\nbase_url = "http://x/v1"\n'
    )
    client = await serve(models=str(path), model="dear", tenant_money_per_day="1.2")
    first = await ask(client)
    await ask(client)
    assert 0 < await refused(client, "money_budget_exceeded", 1.2) <= 86_400
    assert 200 == (await ask(client, model="free"))[0]
    assert 1.0 == pytest.approx((await Tenants(pipe, range(1)).usage("public")).money)
    await client.delete(f"/v1/responses/{first[1]['id']}")
    assert 0.5 == pytest.approx((await Tenants(pipe, range(1)).usage("public")).money)


async def test_the_welcome_states_the_limits_of_the_tenant(serve: Serve, pipe: Pipe) -> None:
    client = await serve(tenant_requests_per_minute="60")
    await Tenants(pipe, range(1)).set("public", {"running": "7", "money_per_day": "2.5"})
    ws = await client.ws_connect("/v1/responses", protocols=EXTENSIONS)
    stated = (await ws.receive_json())["limits"]["tenant"]
    assert {"running": 7, "requests_per_minute": 60, "money_per_day": 2.5} == {
        name: value for name, value in stated.items() if value is not None
    }
    await ws.close()


async def test_the_welcome_states_the_general_limits(serve: Serve) -> None:
    client = await serve(
        max_sockets="9",
        max_waiting="50",
        partitions="2",
        max_output_bytes="77",
        max_body_bytes="5000",
    )
    ws = await client.ws_connect("/v1/responses", protocols=EXTENSIONS)
    stated = (await ws.receive_json())["limits"]
    assert (9, 100, 77, 5000, 64) == tuple(
        stated[name] for name in ("sockets", "waiting", "output_bytes", "message_bytes", "depth")
    )
    await ws.close()


async def test_the_sockets_of_a_tenant_are_limited(serve: Serve, pipe: Pipe) -> None:
    client = await serve(tenant_sockets="2")
    open_ = [await client.ws_connect("/v1/responses", protocols=EXTENSIONS) for _ in range(2)]
    assert 2 == (await open_[0].receive_json())["limits"]["tenant"]["sockets"]

    async def refused_socket(most: int) -> str:
        async with client.get("/v1/responses", headers=UPGRADE) as answer:
            assert (429, "5") == (answer.status, answer.headers["Retry-After"])
            assert str(most) == answer.headers["X-RateLimit-Limit-Sockets"]
            code: str = (await answer.json())["error"]["code"]
            return code

    assert "socket_limit_exceeded" == await refused_socket(2)
    # HTTP requests do not count as sockets; a new limit applies to the next socket; closing a
    # socket makes room.
    assert 200 == (await ask(client))[0]
    await Tenants(pipe, range(1)).set("public", {"sockets": "3"})
    open_.append(await client.ws_connect("/v1/responses", protocols=EXTENSIONS))
    assert "socket_limit_exceeded" == await refused_socket(3)
    await open_.pop().close()
    await wait_until(lambda: 2 == len(client.app[SERVER].sockets))
    open_.append(await client.ws_connect("/v1/responses", protocols=EXTENSIONS))
    for ws in open_:
        await ws.close()


async def test_a_socket_counts_from_its_authentication(serve: Serve, tmp_path: Path) -> None:
    credentials = Credentials(tmp_path)
    client = await serve(tenant_sockets="1", **credentials.settings)

    async def come(tenant: str) -> tuple[ClientWebSocketResponse, dict[str, Any]]:
        ws = await client.ws_connect("/v1/responses", protocols=EXTENSIONS)
        assert 1 == (await ws.receive_json())["limits"]["tenant"]["sockets"]
        await ws.send_json({"type": "holdline:auth", "token": credentials.token(tenant=tenant)})
        return ws, await ws.receive_json(timeout=5)

    first, said = await come("acme")
    assert ("holdline:authenticated", 1) == (said["type"], said["tenant"]["sockets"])
    # Authenticating again with a fresh token does not count as a second socket.
    await first.send_json({"type": "holdline:auth", "token": credentials.token()})
    assert "holdline:authenticated" == (await first.receive_json(timeout=5))["type"]
    other, said = await come("bolt")
    assert "holdline:authenticated" == said["type"]
    second, said = await come("acme")
    assert (429, "socket_limit_exceeded") == (said["status"], said["error"]["code"])
    stated = {"Retry-After": "5", "X-RateLimit-Limit-Sockets": "1"}
    assert stated == said["error"]["headers"]
    assert 4429 == (await second.receive(timeout=5)).data
    await second.close()
    await first.close()
    await wait_until(lambda: 1 == len(client.app[SERVER].sockets))
    third, said = await come("acme")
    assert "holdline:authenticated" == said["type"]
    for ws in (third, other):
        await ws.close()


async def test_limits_are_refused_with_the_same_codes_over_a_socket(serve: Serve) -> None:
    client = await serve(tenant_requests_per_minute="1")
    await ask(client)
    ws = await client.ws_connect("/v1/responses", protocols=EXTENSIONS)
    await ws.receive_json()
    await ws.send_json({"type": "response.create", "input": "Why?"})
    error = (await ws.receive_json())["error"]
    assert "rate_limit_exceeded" == error["code"]
    assert 0 < int(error["headers"]["Retry-After"]) <= 60
    await ws.close()


async def test_nothing_is_stated_without_limits(client: Client) -> None:
    _, _, headers = await ask(client)
    assert not [name for name in headers if name.lower().startswith("x-ratelimit")]
