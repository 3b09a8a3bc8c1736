"""Tests that the OpenAPI and AsyncAPI documents are valid, complete and match the server."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from typing import Any

import aiohttp
import pytest
from jsonschema import Draft7Validator, Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from jobs.feedback import Feedback
from jobs.log import events
from jobs.log.items import ARGUMENTS, CUSTOM_INPUT, SHELL_COMMAND, TEXT_OF, Place
from jobs.record import Status
from server.api import request as requests
from server.api.client_messages import MESSAGE_TYPES
from server.api.close_codes import CloseCode
from server.api.schema.events import EVENTS
from server.api.schema.messages import MESSAGES
from server.api.schema.objects import Response
from server.app import create_app
from server.config import Config
from server.http.documents.asyncapi import asyncapi
from server.http.documents.frontend_routes import AG_UI_MESSAGES
from server.http.documents.openapi import openapi
from server.http.static import pages
from tests.paths.compliance.calls import TRANSPORTS
from tests.paths.compliance.cases import CASES, Case, text
from tests.paths.conftest import Shared
from tests.paths.documents import PROTOCOL, REFERENCE, ROOT, blocks
from tests.system import CODE, EXTENSIONS
from tests.websocket_routes import websocket_routes
from worker.upstream.responses.events import REPORTED
from worker.webhooks.message import body, feedback_body, headers

ASYNCAPI = ROOT / "tests/web/node_modules/@asyncapi/specs/schemas/3.1.0.json"
OPEN, ASYNC = openapi(), asyncapi()


def check_schema(value: Any, name: str) -> None:
    """Validates a value against a schema component of one of the documents."""
    document = OPEN if name in OPEN["components"]["schemas"] else ASYNC
    schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    Draft202012Validator(schema).validate(value)


def closed(components: dict[str, Any], *, whole: bool) -> dict[str, Any]:
    """Returns the components in a form that forbids unknown fields.

    Unless `whole` is set, no field is required.
    """
    copy: dict[str, Any] = json.loads(json.dumps(components))
    for schema in copy["schemas"].values():
        schema.setdefault("additionalProperties", False)
        if not whole:
            schema.pop("required", None)
    return copy


CLOSED = closed(ASYNC["components"], whole=True)


def name_of(kind: str) -> str:
    """Returns the name of the schema component for a message type."""
    return (EVENTS | MESSAGES)[kind].__name__


def test_the_openapi_document_is_valid() -> None:
    OpenAPIV31SpecValidator(OPEN).validate()


@pytest.mark.skipif(
    not ASYNCAPI.exists(), reason="the AsyncAPI schema is not installed: make check installs it"
)
def test_the_asyncapi_document_is_valid() -> None:
    Draft7Validator(json.loads(ASYNCAPI.read_text())).validate(ASYNC)
    for operation in ASYNC["operations"].values():
        channel = ASYNC["channels"][operation["channel"]["$ref"].rpartition("/")[2]]
        for message in operation["messages"]:
            name = message["$ref"].rpartition("/")[2]
            assert {"$ref": f"#/components/messages/{name}"} == channel["messages"][name]
            assert name in ASYNC["components"]["messages"]


@pytest.mark.parametrize("status", [each.value for each in Status if each.ended])
def test_a_webhook_conforms_to_the_document(status: str) -> None:
    payload = body("resp_000" + "0" * 32, status, 1_700_000_000_000)
    check_schema(json.loads(payload), "WebhookEvent")
    sent = {name for name in headers("resp_0", 1, payload, (b"k",)) if name.startswith("webhook")}
    named = {each["name"] for each in OPEN["webhooks"]["responseEnded"]["post"]["parameters"]}
    assert named == sent


def test_a_webhook_about_feedback_conforms_to_the_document() -> None:
    response_id = "resp_000" + "0" * 32
    payload = feedback_body("evt_0_1", response_id, Feedback("down", "No."), 1_700_000_000_000)
    check_schema(json.loads(payload), "FeedbackEvent")


def test_the_api_documents_have_the_version_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == OPEN["info"]["version"] == ASYNC["info"]["version"]


def test_the_documented_routes_match_the_served_routes() -> None:
    app = create_app(Config.from_environ({}))
    versioned = f"/web/{pages().version}/"
    served = {
        (route.method.lower(), route.resource.canonical.replace(versioned, "/web/{version}/"))
        for route in app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    documented = {(m, path) for path, methods in OPEN["paths"].items() for m in methods}
    assert served == documented


def test_the_documented_channels_are_the_websocket_routes() -> None:
    app = create_app(Config.from_environ({}))
    sockets = websocket_routes(app)
    assert len(sockets) >= 2
    assert sockets == {channel["address"] for channel in ASYNC["channels"].values()}


def test_every_message_and_event_is_documented() -> None:
    written = {
        text
        for folder in ("jobs", "server", "worker")
        for path in (CODE / folder).rglob("*.py")
        if path.name != "client_messages.py" and path.parent.name != "schema"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(text := node.value, str)
        if re.fullmatch(r"response\.[a-z_.]+[a-z]|holdline:[a-z.]*[a-z]", text)
    }
    # The code builds these event types with f-strings such as f"response.{kind}".
    written |= {"response.created", "response.queued", "error"}
    written |= {f"response.{stem}_part.done" for stem in ("content", "reasoning_summary")}
    written |= {
        f"{Place(kind, '', 0).event}.{end}"
        for kind in (*TEXT_OF, ARGUMENTS, CUSTOM_INPUT, SHELL_COMMAND)
        for end in ("delta", "done")
    }
    # To match a provider's events, the worker uses event types without their last part.
    written -= {stem for stem in written if f"{stem}.done" in EVENTS}
    # Event types of other providers: the worker accepts them, but the server never sends them.
    written -= {"response.done", "response.error", "response.reasoning", "response.reasoning_part"}
    written -= {"response.input_tokens", "response.compaction"}  # the types of HTTP bodies
    assert written == EVENTS.keys() | MESSAGES.keys()
    assert events.TERMINAL_TYPES <= EVENTS.keys()
    assert EVENTS.keys() | MESSAGES.keys() <= {e["type"] for e in EXAMPLES}
    named = {m["name"] for m in ASYNC["components"]["messages"].values()}
    front_ends = {name for name, _ in AG_UI_MESSAGES.values()}
    assert named == MESSAGE_TYPES.keys() | EVENTS.keys() | MESSAGES.keys() | front_ends


def test_every_close_code_is_in_the_asyncapi_document() -> None:
    for channel in ASYNC["channels"].values():
        codes = channel["x-close-codes"]
        assert {str(int(code)): code.come_back for code in CloseCode} == {
            code: about["come_back"] for code, about in codes.items()
        }


def test_every_parameter_is_in_the_openapi_document() -> None:
    known = set(requests.Create.__struct_fields__)
    assert known == OPEN["components"]["schemas"]["Create"]["properties"].keys()


def test_the_schema_of_a_response_has_exactly_the_fields_that_are_sent() -> None:
    (keys,) = (
        {key.value for key in node.value.keys if isinstance(key, ast.Constant)}
        for function in ast.walk(ast.parse((CODE / "jobs/log/events.py").read_text()))
        if isinstance(function, ast.FunctionDef) and function.name == "snapshot"
        for node in ast.walk(function)
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Dict)
    )
    more = {"holdline", *events.IF_GIVEN, *REPORTED}
    assert keys | more == set(Response.__struct_fields__)


EXAMPLES = [
    json.loads(line)
    for block in blocks(PROTOCOL + REFERENCE, "json")
    for line in block.splitlines()
    if '"type"' in line.partition(",")[0]
]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example["type"])
def test_an_example_has_only_fields_of_its_type(example: dict[str, Any]) -> None:
    """Required fields may be missing, because the examples are shortened."""
    (message,) = (
        name for name, m in ASYNC["components"]["messages"].items() if m["name"] == example["type"]
    )
    shortened = closed(ASYNC["components"], whole=False)
    reference = {"$ref": f"#/components/schemas/{message}", "components": shortened}
    Draft202012Validator(reference).validate(example)


async def test_the_api_documents_are_served(shared: Shared) -> None:
    async with aiohttp.ClientSession() as http:
        for path, document in (("/openapi.json", OPEN), ("/asyncapi.json", ASYNC)):
            async with http.get(shared.server.url + path) as answer:
                assert document == await answer.json()


@pytest.mark.parametrize(
    ("path", "status", "name"),
    [
        ("/livez", 200, "Live"),
        ("/readyz", 200, "Ready"),
        ("/healthz/service", 200, "Service"),
        ("/origin", 200, "OriginCheck"),
        ("/v1/models", 200, "Models"),
        ("/v1/responses/resp_unknown", 404, "ErrorBody"),
        ("/v1/responses", 426, "ErrorBody"),
        ("/nowhere", 404, "ErrorBody"),
    ],
)
async def test_a_get_response_conforms_to_its_schema(
    shared: Shared, path: str, status: int, name: str
) -> None:
    async with aiohttp.ClientSession() as http, http.get(shared.server.url + path) as answer:
        assert status == answer.status
        check_schema(await answer.json(), name)


async def test_all_http_operations_on_a_response_conform_to_their_schemas(shared: Shared) -> None:
    async with aiohttp.ClientSession(shared.server.url) as http:
        ask = {"input": [{"role": "user", "content": shared.prompt()}], "model": "m"}
        check_schema(ask, "Create")
        async with http.post("/v1/responses", json=ask) as answer:
            response = await answer.json()
        check_schema(response, "Response")
        one = f"/v1/responses/{response['id']}"
        for path, name in ((one, "Response"), (f"{one}/input_items", "InputItems")):
            async with http.get(path) as answer:
                check_schema(await answer.json(), name)
        given = {"rating": "up", "comment": None}
        check_schema(given, "GiveFeedback")
        async with http.post(f"{one}/feedback", json=given) as answer:
            check_schema(await answer.json(), "Feedback")
        async with http.post(f"{one}/cancel") as answer:
            check_schema(await answer.json(), "Response")
        async with http.delete(one) as answer:
            check_schema(await answer.json(), "Deleted")


ENDS = [Case(script, script, text) for script in ("mode=eof times=1", "mode=length", "mode=400")]


@pytest.mark.parametrize("transport", ["streamed", "socket"])
@pytest.mark.parametrize("case", [*CASES, *ENDS], ids=lambda case: case.id)
async def test_every_event_conforms_to_its_schema(
    shared: Shared, case: Case, transport: str
) -> None:
    request = case.request(shared.prompt(case.script))
    check_schema(request, "Create")
    async with TRANSPORTS[transport](shared.server) as ask:
        turn = await ask(request)
    assert turn.events
    for event in turn.events:
        reference = f"#/components/schemas/{name_of(event['type'])}"
        Draft202012Validator({"$ref": reference, "components": CLOSED}).validate(event)


async def test_every_socket_message_conforms_to_its_schema(shared: Shared) -> None:
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(shared.server.ws_url, protocols=EXTENSIONS) as ws,
    ):
        check_schema(await ws.receive_json(timeout=8), "HoldlineWelcome")
        for said, name in (
            ({"type": "holdline:ping", "id": 1}, "HoldlinePong"),
            ({"type": "response.cancel", "response_id": "resp_x"}, "ErrorEvent"),
            ({"type": "holdline:resume", "response_id": "resp_x", "stream_id": "a"}, "ErrorEvent"),
        ):
            await ws.send_json(said)
            check_schema(await ws.receive_json(timeout=8), name)


@pytest.mark.parametrize(
    ("path", "body", "whole"),
    [
        ("/v1/responses", {}, False),
        ("/v1/responses", {"input": None, "model": "m"}, False),
        ("/v1/responses", {"input": "Why?"}, True),
        ("/v1/responses", {"prompt": {"id": "p"}}, True),
        ("/v1/chat/completions", {"model": "m"}, False),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Why?"}]}, True),
    ],
)
def test_the_document_requires_the_same_fields_as_the_server(
    path: str, body: dict[str, Any], whole: bool
) -> None:
    asked = OPEN["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    schema = {**asked, "components": OPEN["components"]}
    assert whole == Draft202012Validator(schema).is_valid(body)
