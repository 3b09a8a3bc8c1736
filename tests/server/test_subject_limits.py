"""Tests the limits per end user: a single end user cannot exhaust the tenant's limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.redis.pipe import Pipe
from jobs.tenants import Tenants
from tests.error_codes import own_code
from tests.jobs.factories import NAMES
from tests.server.auth_helpers import Credentials, bearer
from tests.server.conftest import Client, Serve
from tests.server.factories import Worker
from tests.system import EXTENSIONS

BODY = {"input": "Why?", "background": True, "max_output_tokens": 500}
STANDARD = {
    "subject_rate_limit_exceeded": "rate_limit_exceeded",
    "subject_running_limit_exceeded": "rate_limit_exceeded",
    "subject_budget_exceeded": "insufficient_quota",
}


async def ask(client: Client, headers: dict[str, str], **more: Any) -> Any:
    return await client.post("/v1/responses", json=BODY | more, headers=headers)


async def accepted(client: Client, headers: dict[str, str], **more: Any) -> str:
    response = await ask(client, headers, **more)
    assert 200 == response.status, await response.text()
    id_: str = (await response.json())["id"]
    return id_


async def refused(client: Client, headers: dict[str, str], code: str, **stated: str) -> int:
    """Checks that a request is refused, and returns the seconds to wait before the next request."""
    response = await ask(client, headers)
    error = (await response.json())["error"]
    assert (429, code, STANDARD[code]) == (response.status, own_code(error), error["code"])
    for name, value in stated.items():
        assert value == response.headers[f"X-RateLimit-Limit-{name}"]
    return int(response.headers["Retry-After"])


@pytest.fixture
def credentials(tmp_path: Path) -> Credentials:
    return Credentials(tmp_path)


async def test_requests_per_minute_are_limited(serve: Serve, credentials: Credentials) -> None:
    client = await serve(
        subject_requests_per_minute="2", tenant_requests_per_minute="9", **credentials.settings
    )
    anna, ben = (bearer(credentials.token(name)) for name in ("anna", "ben"))
    for left in ("1", "0"):
        response = await ask(client, anna)
        assert ("2", left) == (
            response.headers["X-RateLimit-Limit-Requests"],
            response.headers["X-RateLimit-Remaining-Requests"],
        )
    for _ in range(9):  # a refused request does not count against the user or the tenant
        assert 28 <= await refused(client, anna, "subject_rate_limit_exceeded", Requests="2") <= 30
    await accepted(client, ben)
    await accepted(client, bearer(credentials.token("anna", "bolt")))


async def test_the_remaining_budget_of_the_tenant_is_reported_if_smaller(
    serve: Serve, credentials: Credentials
) -> None:
    client = await serve(
        subject_requests_per_minute="5", tenant_requests_per_minute="3", **credentials.settings
    )
    await accepted(client, bearer(credentials.token("ben")))
    response = await ask(client, bearer(credentials.token("anna")))
    assert ("3", "1") == (
        response.headers["X-RateLimit-Limit-Requests"],
        response.headers["X-RateLimit-Remaining-Requests"],
    )


async def test_the_waiting_and_running_answers_of_an_end_user_are_limited(
    serve: Serve, credentials: Credentials, worker: Worker
) -> None:
    client = await serve(subject_running="2", **credentials.settings)
    anna, ben = (bearer(credentials.token(name)) for name in ("anna", "ben"))
    await accepted(client, anna)
    running = await worker.take()
    second = await accepted(client, anna)
    assert 5 == await refused(client, anna, "subject_running_limit_exceeded", Running="2")
    await accepted(client, ben)
    await running.complete()
    third = await accepted(client, anna)
    await refused(client, anna, "subject_running_limit_exceeded")
    await client.post(f"/v1/responses/{second}/cancel", headers=anna)
    await client.delete(f"/v1/responses/{third}", headers=anna)
    await accepted(client, anna)
    await accepted(client, anna)


async def test_tokens_and_cost_per_day_of_an_end_user_are_limited(
    serve: Serve, credentials: Credentials, pipe: Pipe
) -> None:
    client = await serve(subject_tokens_per_day="1200", **credentials.settings)
    anna, ben = (bearer(credentials.token(name)) for name in ("anna", "ben"))
    first = await accepted(client, anna)
    await accepted(client, anna)
    assert 0 < await refused(client, anna, "subject_budget_exceeded", Tokens="1200") <= 86_400
    await accepted(client, ben)
    # Ending a request before any model call returns its reserved tokens to the user and the
    # tenant.
    await client.post(f"/v1/responses/{first}/cancel", headers=anna)
    await accepted(client, anna)
    assert 1500 < (await Tenants(pipe, range(1)).usage("acme")).tokens < 1700


async def test_a_tenant_can_have_its_own_end_user_limits(
    serve: Serve, credentials: Credentials, pipe: Pipe
) -> None:
    client = await serve(subject_requests_per_minute="1", **credentials.settings)
    await Tenants(pipe, range(1)).set("acme", {"subject_requests_per_minute": "2"})
    await Tenants(pipe, range(1)).set("bolt", {"subject_requests_per_minute": "0"})
    acme = bearer(credentials.token())
    await accepted(client, acme)
    await accepted(client, acme)
    await refused(client, acme, "subject_rate_limit_exceeded", Requests="2")
    for _ in range(3):
        await accepted(client, bearer(credentials.token(tenant="bolt")))
    other = bearer(credentials.token(tenant="corp"))
    await accepted(client, other)
    await refused(client, other, "subject_rate_limit_exceeded", Requests="1")


async def test_callers_with_a_key_are_counted_by_address_unless_they_have_the_admin_scope(
    serve: Serve, credentials: Credentials
) -> None:
    shared, service = credentials.key("acme"), credentials.key("acme", "create", "admin")
    client = await serve(
        subject_requests_per_minute="1", trusted_proxies="127.0.0.1", **credentials.settings
    )

    def at(address: str) -> dict[str, str]:
        return bearer(shared) | {"X-Forwarded-For": address}

    await accepted(client, at("192.0.2.1"))
    await refused(client, at("192.0.2.1"), "subject_rate_limit_exceeded")
    await accepted(client, at("192.0.2.2"))
    for _ in range(3):
        await accepted(client, bearer(service))


async def test_callers_are_counted_by_address_without_keys(
    serve: Serve, pipe: Pipe, capsys: pytest.CaptureFixture[str]
) -> None:
    client = await serve(subject_requests_per_minute="1", trusted_proxies="127.0.0.0/8")
    await accepted(client, {"X-Forwarded-For": "6.6.6.6, 192.0.2.1"})
    await refused(client, {"X-Forwarded-For": "192.0.2.1"}, "subject_rate_limit_exceeded")
    await accepted(client, {"X-Forwarded-For": "2001:db8::1"})
    await refused(client, {"X-Forwarded-For": "2001:db8::2"}, "subject_rate_limit_exceeded")
    await accepted(client, {"X-Forwarded-For": "2001:db8:0:1::1"})
    keys = await pipe.call("KEYS", "*")
    jobs = [await pipe.call("HGETALL", key) for key in keys if b":job:" in key]
    assert "192.0.2.1" not in repr((keys, jobs)) + capsys.readouterr().out
    assert 3 == len(await pipe.call("KEYS", NAMES.rate("public/@*")))


async def test_the_forwarding_header_is_ignored_without_trusted_proxies(serve: Serve) -> None:
    client = await serve(subject_requests_per_minute="1")
    await accepted(client, {"X-Forwarded-For": "192.0.2.1"})
    await refused(client, {"X-Forwarded-For": "192.0.2.2"}, "subject_rate_limit_exceeded")


async def test_limits_are_refused_with_the_same_codes_over_a_socket(
    serve: Serve, credentials: Credentials
) -> None:
    client = await serve(subject_requests_per_minute="1", **credentials.settings)
    ws = await client.ws_connect("/v1/responses", protocols=EXTENSIONS)
    await ws.receive_json()
    await ws.send_json({"type": "holdline:auth", "token": credentials.token()})
    said = await ws.receive_json()
    assert 1 == said["tenant"]["subject_requests_per_minute"]
    await ask(client, bearer(credentials.token()))
    await ws.send_json({"type": "response.create", "input": "Why?"})
    error = (await ws.receive_json())["error"]
    assert ("rate_limit_exceeded", "subject_rate_limit_exceeded") == (
        error["code"],
        own_code(error),
    )
    assert 0 < int(error["headers"]["Retry-After"]) <= 60
    await ws.close()
    ws = await client.ws_connect("/v1/responses", headers=bearer(credentials.token("ben")))
    await ws.send_json({"type": "response.create", "input": "Why?"})
    assert "response.created" == (await ws.receive_json())["type"]
    await ws.close()


async def test_a_repeated_key_does_not_count_against_the_end_users_limit(
    serve: Serve, credentials: Credentials
) -> None:
    client = await serve(subject_requests_per_minute="1", **credentials.settings)
    anna = bearer(credentials.token())
    assert 1 == len({await accepted(client, anna, idempotency_key="k") for _ in range(3)})


async def test_end_users_are_not_counted_without_limits(
    serve: Serve, credentials: Credentials, pipe: Pipe
) -> None:
    client = await serve(**credentials.settings)
    await accepted(client, bearer(credentials.token()))
    assert [] == await pipe.call("KEYS", "*:acme/*")
