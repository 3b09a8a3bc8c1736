"""Tests that prompt templates expand to requests and that variables are inserted literally."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.config.models import catalog
from jobs.config.settings import ConfigError
from jobs.config.toml import InvalidTable
from server.access.principal import Principal
from server.admission import admitted
from server.api.problem import Problem
from server.api.request import JsonObject, parse_create
from server.config import Config
from server.templates import expanded, templates
from tests.server.conftest import Client, Serve

FILE = """
[prompts.both]
version = "2"
instructions = "Speak {{ language }}."
messages = [
  { role = "user", content = "Look at {{what}}." },
  { role = "assistant", content = "At {{what}}?" },
]
model = "m"
temperature = 0.5
text = { format = { type = "json_object" } }
[prompts.told]
instructions = "Be brief."
[prompts.shown]
messages = [{ role = "user", content = "Before {{it}} after {{it}}" }]
"""
MODEL = '[models.m]\nbase_url = "http://127.0.0.1:9/v1"\n'
FILE_PART = {"type": "input_file", "file_id": "file_1"}
OF_INPUT = "input[0].content[0].file_id"
TEMPLATES = templates(catalog(FILE).prompts)


def request(id_: str, variables: dict[str, Any] | None = None, **more: Any) -> Any:
    return expanded(
        parse_create({"prompt": {"id": id_, "variables": variables}, **more}), TEMPLATES, 10_000
    )


@pytest.mark.parametrize(
    ("prompt", "content", "param"),
    [
        ({"id": "both", "variables": {"language": "Greek", "what": "this"}}, [FILE_PART], OF_INPUT),
        ({"id": "shown", "variables": {"it": FILE_PART}}, "And?", "prompt.variables.it.file_id"),
    ],
)
def test_the_error_for_a_part_names_its_place_in_the_request(
    prompt: Any, content: Any, param: str
) -> None:
    said = {"type": "message", "role": "user", "content": content}
    create = parse_create({"model": "m", "prompt": prompt, "input": [said]})
    with pytest.raises(Problem) as refused:
        admitted(create, Principal("acme"), catalog(MODEL), TEMPLATES, 10_000)
    assert param == refused.value.param


def test_a_template_can_set_every_part_of_a_request() -> None:
    create = request("both", {"language": "Greek", "what": "this"})
    assert ("Speak Greek.", "m", 0.5) == (create.instructions, create.model, create.temperature)
    said = [(message.role, message.content) for message in create.input]
    assert [("user", "Look at this."), ("assistant", "At this?")] == said
    assert isinstance(create.text.format, JsonObject)


def test_the_request_overrides_the_template_and_its_input_comes_last() -> None:
    create = request(
        "both",
        {"language": "Greek", "what": "this"},
        input="And?",
        instructions="Speak.",
        model="n",
        temperature=0,
        text={},
    )
    assert ("Speak.", "n", 0) == (create.instructions, create.model, create.temperature)
    assert "And?" == create.items[-1].content
    assert not isinstance(create.text.format, JsonObject)
    items = [{"role": "user", "content": "a"}]
    assert 3 == len(request("both", {"language": "", "what": ""}, input=items).input)
    assert ["Hi"] == [item.content for item in request("told", input="Hi").items]


def test_an_image_variable_becomes_a_part_at_its_place() -> None:
    image = {"type": "input_image", "image_url": "https://h/i.png"}
    parts = request("shown", {"it": image}).input[0].content
    assert ["InputText", "InputImage", "InputText", "InputImage"] == [
        type(part).__name__ for part in parts
    ]
    text = {"type": "input_text", "text": "{{it}}"}
    assert "Before {{it}} after {{it}}" == request("shown", {"it": text}).input[0].content


@given(st.text(), st.text())
def test_values_of_variables_are_never_expanded(one: str, two: str) -> None:
    one, two = one + "{{what}}{{language}}", two + "{{ language }}{{"
    create = request("both", {"language": one, "what": two})
    assert f"Speak {one}." == create.instructions
    assert [f"Look at {two}.", f"At {two}?"] == [message.content for message in create.input]


IMAGE = {"type": "input_image", "image_url": "https://h/i.png"}


@pytest.mark.parametrize(
    ("prompt", "status", "code", "param"),
    [
        ({"id": "none"}, 404, "prompt_not_found", "prompt.id"),
        ({"id": "told", "version": "1"}, 404, "prompt_not_found", "prompt.version"),
        ({"id": "both", "version": "1"}, 404, "prompt_not_found", "prompt.version"),
        ({"id": "shown"}, 400, "missing_required_parameter", "prompt.variables.it"),
        (
            {"id": "shown", "variables": {"it": "", "that": ""}},
            400,
            "unknown_parameter",
            "prompt.variables.that",
        ),
        ({"id": "told"}, 400, "missing_required_parameter", "input"),
        (
            {"id": "both", "variables": {"language": IMAGE, "what": ""}},
            400,
            "invalid_value",
            "prompt.variables.language",
        ),
        (
            {"id": "both", "variables": {"language": "", "what": IMAGE}},
            400,
            "invalid_value",
            "prompt.variables.what",
        ),
    ],
)
def test_the_error_names_the_invalid_value(prompt: Any, status: int, code: str, param: str) -> None:
    with pytest.raises(Problem) as refused:
        expanded(parse_create({"prompt": prompt}), TEMPLATES, 10_000)
    problem = refused.value
    assert (status, code, param) == (problem.status, problem.code, problem.param)
    if code == "prompt_not_found" and param == "prompt.id":
        assert "Available prompts: both, code-review, shown, told." in problem.message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[prompts.a]", r"\[prompts.a\] instructions is missing; set instructions or messages"),
        ("[prompts]\na = 1", r"\[prompts\] a must be a table"),
        ("[prompts.'a b']\ninstructions = 'x'", "not a valid id"),
        ("[prompts.a]\ninstruction = 'x'\nmessages = [{ content = 'x' }]", "mean instructions"),
        ("[prompts.a]\nmessages = [{ role = 'king', content = 'x' }]", "role must be assistant or"),
        (
            "[prompts.a]\nmessages = [{ role = 'user' }]",
            r"\[prompts.a.messages\[0\]\] content is missing",
        ),
        (
            "[prompts.a]\nmessages = [5]",
            r"\[prompts.a\] messages\[0\] must be a table",
        ),
        ("[prompts.a]\nmessages = 5", "messages must be a list of tables with role and content"),
        ("[prompts.a]\ninstructions = 'x'\ntemperature = 3", "between 0 and 2"),
        (
            "[prompts.a]\ninstructions = 'x'\ntext = { format = 'x' }",
            r"\[prompts.a.text\] format is invalid: expected",
        ),
    ],
)
def test_an_invalid_template_is_named(text: str, says: str) -> None:
    with pytest.raises(InvalidTable, match=says):
        templates(catalog(text).prompts)


def test_a_server_with_an_invalid_prompts_file_does_not_start(tmp_path: Path) -> None:
    path = tmp_path / "models.toml"
    path.write_text(
        '[models.m]\nbase_url = "http://h"\n[prompts.a]\ninstructions = "x"\nmodel = "n"'
    )
    with pytest.raises(ConfigError, match=r"HOLDLINE_MODELS=.*\[prompts.a\] model is 'n'"):
        Config.from_environ({"HOLDLINE_MODELS": str(path)})


async def test_a_prompt_is_stored_expanded_and_shown_as_requested(
    serve: Serve, tmp_path: Path
) -> None:
    path = tmp_path / "models.toml"
    path.write_text(FILE)
    client = await serve(models=str(path))
    prompt = {"id": "both", "variables": {"language": "Greek", "what": "this"}, "version": "2"}
    body = {"prompt": prompt, "background": True}
    response = await (await client.post("/v1/responses", json=body)).json()
    assert (prompt, "Speak Greek.", "m") == (
        response["prompt"],
        response["instructions"],
        response["model"],
    )
    items = await (await client.get(f"/v1/responses/{response['id']}/input_items?order=asc")).json()
    assert ["Look at this.", "At this?"] == [i["content"][0]["text"] for i in items["data"]]


async def test_every_server_has_the_code_review_prompt(client: Client) -> None:
    prompt = {"id": "code-review", "variables": {"code": "```py\nx\n```"}}
    body = {"prompt": prompt, "background": True}
    response = await (await client.post("/v1/responses", json=body)).json()
    assert "## Improvements\n## Complexity\n## Bugs" in response["instructions"]
    async with client.ws_connect("/v1/responses") as ws:
        await ws.send_json({"type": "response.create", "prompt": {"id": "none"}})
        while (event := await ws.receive_json(timeout=20))["type"] != "error":
            pass
        assert "prompt_not_found" == event["error"]["code"]


def test_each_use_of_a_variable_counts_toward_the_size_limit() -> None:
    known = templates({"many": {"instructions": "{{word}}" * 20}})
    create = parse_create({"input": "a", "prompt": {"id": "many", "variables": {"word": "x" * 90}}})
    assert 1800 == len(expanded(create, known, 2000).instructions or "")
    with pytest.raises(Problem) as refused:
        expanded(create, known, 1000)
    assert ("context_too_large", "prompt.variables") == (refused.value.code, refused.value.param)
