"""Tests that the table of the standard's names is complete, documented and true."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from jobs.config.models import catalog
from jobs.record import Job
from jobs.support import INCLUDES, ITEMS, PARAMETERS, REFUSED, TOOL_CHOICES, TOOLS
from server.access.principal import EVERYBODY
from server.api import request as requests
from server.api.items import FunctionCall, FunctionCallOutput, Message, Reasoning
from server.api.problem import Problem
from server.api.request import params_of, parse_create
from server.capabilities import check
from tests.paths import sdk_types
from tests.paths.documents import REFERENCE, section
from tests.paths.support_table import markdown
from worker.upstream.chat.messages import UnsupportedInput
from worker.upstream.chat.unsupported import check as check_chat
from worker.upstream.left_out import left_out

MODELS = catalog("""
[models.chat]
base_url = "http://127.0.0.1:1"
[models.dropping]
base_url = "http://127.0.0.1:1"
unsupported_tools = "drop"
[models.responses]
base_url = "http://127.0.0.1:1"
api = "responses"
[models.both]
base_url = "http://127.0.0.1:1"
fallbacks = ["responses"]
[models.dropping_both]
base_url = "http://127.0.0.1:1"
unsupported_tools = "drop"
fallbacks = ["responses"]
[models.refusing]
base_url = "http://127.0.0.1:1"
fallbacks = ["dropping"]
""")
F = {"type": "function", "name": "f"}
FILE = {"type": "input_file", "file_id": "file_1"}
SHELL = {"type": "exit", "exit_code": 0}
NAMED: dict[str, Any] = {"type": "namespace", "name": "n", "description": "", "tools": [F]}
TOOL_FORMAT = "tools[1].format.type"
CHAT_ENDPOINT: Any = SimpleNamespace(api="chat")
# The members of a tool or item that are required for its type.
SEARCH = {"type": "web_search"}
MEMBERS: dict[str, dict[str, Any]] = {
    "function": {"name": "f"},
    "custom": {"name": "c"},
    "namespace": {"name": "n", "description": "", "tools": [F]},
    "allowed_tools": {"mode": "auto", "tools": [F]},
    "message": {"role": "user", "content": "x"},
    "function_call": {"call_id": "c", "name": "f", "arguments": "{}"},
    "function_call_output": {"call_id": "c", "output": ""},
    "item_reference": {"id": "msg_1"},
    "custom_tool_call": {"call_id": "c", "name": "c", "input": ""},
    "custom_tool_call_output": {"call_id": "c", "output": ""},
    "local_shell_call": {"call_id": "c", "action": {"type": "exec", "command": ["ls"], "env": {}}},
    "local_shell_call_output": {"id": "c", "output": ""},
    "shell_call": {"call_id": "c", "action": {"commands": ["ls"]}},
    "shell_call_output": {
        "call_id": "c",
        "output": [{"stdout": "", "stderr": "", "outcome": SHELL}],
    },
    "apply_patch_call": {"call_id": "c", "operation": {"type": "delete_file", "path": "a"}},
    "apply_patch_call_output": {"call_id": "c", "status": "completed"},
    "tool_search_call": {"call_id": "c", "arguments": {}},
    "compaction": {"encrypted_content": "x"},
    "additional_tools": {"role": "developer", "tools": [F]},
    "tool_search_output": {"call_id": "c", "execution": "client", "tools": [F]},
}
PROVIDERS: dict[str, Any] = {
    "access_programs": {"cyber": "standard"},
    "moderation": {"model": "omni-moderation-latest"},
}


def admit(model: str, **body: Any) -> dict[str, Any]:
    """Returns the stored parameters of a request. Raises: Problem."""
    create = parse_create({"input": "x", **body, "model": model})
    params = params_of(create, "")
    check(MODELS, create, params, EVERYBODY)
    return params


@pytest.mark.parametrize(
    ("rows", "names"),
    [
        (PARAMETERS, sdk_types.parameters()),
        (TOOLS, sdk_types.tools()),
        (TOOL_CHOICES, sdk_types.tool_choices()),
        (ITEMS, sdk_types.items()),
        (INCLUDES, sdk_types.includes()),
    ],
)
def test_the_table_has_exactly_the_names_of_the_sdk(rows: Any, names: set[str]) -> None:
    assert names == {name for name, row in rows.items() if row.standard}


def test_the_table_is_documented() -> None:
    written = section(REFERENCE, "Support by kind of endpoint")
    assert f"\n\n{markdown()}\n" in written, "run python -m tests.paths.support_table"


def test_each_parameter_of_the_table_is_accepted_or_refused_by_the_server() -> None:
    assert set(requests.Create.__struct_fields__) == PARAMETERS.keys()


def test_the_table_says_which_items_need_an_id() -> None:
    needed = {name for name, row in ITEMS.items() if row.needs_id}
    # Holdline gives each message and each reasoning item its own id, which it does not send.
    assert sdk_types.items_that_need_an_id() - {"message", "reasoning", "item_reference"} == needed


@pytest.mark.parametrize("kind", [Message, FunctionCall, FunctionCallOutput, Reasoning])
def test_no_member_of_a_known_item_is_lost(kind: type[msgspec.Struct]) -> None:
    tag = kind.__struct_config__.tag
    assert isinstance(tag, str)
    known = set(kind.__struct_encode_fields__)
    assert set() == sdk_types.item_members(tag) - known - {"type"}


def test_the_prefixes_of_item_ids_are_unique() -> None:
    prefixes = [row.prefix for row in ITEMS.values() if row.prefix]
    assert len(prefixes) == len(set(prefixes)) == len(ITEMS) - 1


@pytest.mark.parametrize("name", sorted(TOOLS))
def test_a_tool_is_accepted_as_the_table_says(name: str) -> None:
    tool = {"type": name, **MEMBERS.get(name, {})}
    for model in ("responses", "both", "dropping"):
        assert tool.items() <= admit(model, tools=[tool])["tools"][0].items()
    if TOOLS[name].chat is not REFUSED:
        assert admit("chat", tools=[tool])
        return
    with pytest.raises(Problem, match=rf"'{name}'.*can: responses\.") as refused:
        admit("chat", tools=[F, tool])
    assert ("tools[1].type", "unsupported_parameter") == (refused.value.param, refused.value.code)


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "shell", "environment": {"type": "container_auto"}},
        {"type": "tool_of_tomorrow"},
    ],
)
def test_a_chat_model_refuses_what_only_a_provider_can_run(tool: dict[str, Any]) -> None:
    assert admit("responses", tools=[tool])
    with pytest.raises(Problem, match=tool["type"]):
        admit("chat", tools=[tool])


def custom(**form: str) -> dict[str, Any]:
    return {"type": "custom", "name": "c", "format": form}


@pytest.mark.parametrize(
    ("tool", "member"),
    [
        (custom(type="xml"), "format.type"),
        (custom(type="grammar", syntax="ebnf", definition="x"), "format.syntax"),
        (custom(type="grammar", definition="x"), "format.syntax"),
        (custom(type="grammar", syntax="lark"), "format.definition"),
        ({"type": "namespace", "name": "n", "tools": []}, "tools"),
        ({"type": "namespace", "name": "n", "tools": [F, custom(type="xml")]}, TOOL_FORMAT),
        ({"type": "shell", "environment": {"type": "container_auto"}}, "environment.type"),
        ({"type": "shell", "environment": "local"}, "environment"),
    ],
)
def test_a_chat_model_refuses_the_part_of_a_tool_that_a_function_cannot_express(
    tool: dict[str, Any], member: str
) -> None:
    added = {"type": "additional_tools", "role": "developer", "tools": [F, tool]}
    found = {"type": "tool_search_output", "call_id": "c", "tools": [F, tool]}
    for body, place in (
        ({"tools": [F, tool]}, "tools[1]"),
        ({"input": [added]}, "input[0].tools[1]"),
        ({"input": [found]}, "input[0].tools[1]"),
    ):
        for model in ("responses", "both", "dropping"):
            assert admit(model, **body)
        with pytest.raises(Problem, match="does not support") as refused:
            admit("chat", **body)
        assert (f"{place}.{member}", "unsupported_parameter") == (
            refused.value.param,
            refused.value.code,
        )
        job = Job("resp_x", "me", 0, {"input": [], **body})
        assert left_out(job, CHAT_ENDPOINT)["dropped_tools"], "the response says so"
    if member != TOOL_FORMAT:
        with pytest.raises(Problem, match="tool_choice"):
            admit("dropping", tools=[tool], tool_choice="required")


@pytest.mark.parametrize(
    ("first", "second", "member"),
    [
        (F, {**F, "description": "Another."}, "name"),
        (custom(type="text"), {"type": "custom", "name": "c"}, "name"),
        ({"type": "shell"}, {"type": "shell", "environment": {"type": "local"}}, "type"),
        (NAMED, {**NAMED, "description": "Another."}, "name"),
        (NAMED, {**NAMED, "tools": [{**F, "description": "Another."}]}, "tools[0].name"),
    ],
)
def test_a_chat_model_refuses_two_definitions_of_one_tool(
    first: dict[str, Any], second: dict[str, Any], member: str
) -> None:
    added = {"type": "additional_tools", "role": "developer", "tools": [second]}
    for body, place in (
        ({"tools": [first, second]}, "tools[1]"),
        ({"tools": [first], "input": [added]}, "input[0].tools[0]"),
    ):
        for model in ("responses", "both"):
            assert admit(model, **body)
        for model in ("chat", "dropping"):
            with pytest.raises(Problem, match="again") as refused:
                admit(model, **body)
            assert f"{place}.{member}" == refused.value.param
        with pytest.raises(UnsupportedInput, match="two definitions"):
            check_chat(body)


def test_a_tool_may_be_repeated_and_share_its_name_with_a_tool_of_another_kind() -> None:
    others = [{"type": "custom", "name": "f"}, {**NAMED, "name": "f"}, NAMED]
    repeated = {**F, "description": None, "defer_loading": True}
    assert admit("chat", tools=[F, *others, repeated])


def test_a_chat_model_refuses_a_provider_s_tool_that_an_item_adds() -> None:
    item = {"type": "additional_tools", "role": "developer", "tools": [F, {"type": "mcp"}]}
    for model in ("responses", "dropping"):
        assert admit(model, input=[item])
    with pytest.raises(Problem, match="'mcp'") as refused:
        admit("chat", input=[item])
    assert "input[0].tools[1].type" == refused.value.param


def test_a_search_for_tools_needs_its_arguments() -> None:
    with pytest.raises(Problem, match="arguments") as refused:
        admit("chat", input=[{"type": "tool_search_call", "call_id": "c"}])
    assert "input[0].arguments" == refused.value.param


@pytest.mark.parametrize("name", sorted(TOOL_CHOICES))
def test_a_tool_choice_is_accepted_as_the_table_says(name: str) -> None:
    word = name in ("auto", "none", "required")
    choice = name if word else {"type": name, **MEMBERS.get(name, {})}
    named = name in ("custom", "shell", "apply_patch")
    tools = [F, *([{"type": name, **MEMBERS.get(name, {})}] if named else [])]
    assert choice == admit("responses", tools=tools, tool_choice=choice)["tool_choice"]
    if TOOL_CHOICES[name].chat is not REFUSED:
        assert admit("chat", tools=tools, tool_choice=choice)
        return
    for model in ("chat", "dropping"):
        with pytest.raises(Problem, match=name) as refused:
            admit(model, tools=tools, tool_choice=choice)
        assert "tool_choice.type" == refused.value.param


@pytest.mark.parametrize(
    "choice", ["required", {"type": "allowed_tools", "mode": "required", "tools": [SEARCH]}]
)
def test_a_choice_that_requires_a_tool_needs_one_that_is_not_left_out(choice: Any) -> None:
    assert admit("responses", tools=[SEARCH], tool_choice=choice)
    with pytest.raises(Problem, match="tool_choice") as refused:
        admit("dropping", tools=[SEARCH], tool_choice=choice)
    assert ("tool_choice", "unsupported_parameter") == (refused.value.param, refused.value.code)
    if choice == "required":
        found = {"type": "tool_search_output", "call_id": "c", "tools": [F]}
        assert admit("dropping", tools=[SEARCH, F], tool_choice=choice)
        assert admit("dropping", tools=[SEARCH], input=[found], tool_choice=choice)
    else:
        usable = {**choice, "tools": [SEARCH, F]}
        assert admit("dropping", tools=[SEARCH, F], tool_choice=usable)


@pytest.mark.parametrize("name", sorted(ITEMS))
def test_an_item_is_accepted_as_the_table_says(name: str) -> None:
    item = {"type": name, **MEMBERS.get(name, {})}
    for model in ("responses", "both", "dropping"):
        assert admit(model, input=[item])
    if ITEMS[name].chat is not REFUSED:
        assert admit("chat", input=[item])
        return
    with pytest.raises(Problem, match=name) as refused:
        admit("chat", input=[MEMBERS["message"], item])
    assert "input[1].type" == refused.value.param


def test_an_include_value_of_tomorrow_is_passed_on_to_a_provider_alone() -> None:
    for name in INCLUDES:
        assert [name] == admit("chat", include=[name])["include"]
    assert ["new_call.results"] == admit("responses", include=["new_call.results"])["include"]
    with pytest.raises(Problem, match="new_call") as refused:
        admit("chat", include=["usage", "new_call.results"][1:])
    assert "include[0]" == refused.value.param


@pytest.mark.parametrize("name", sorted(PROVIDERS))
def test_a_parameter_for_a_provider_is_refused_by_a_chat_model(name: str) -> None:
    assert REFUSED is PARAMETERS[name].chat
    assert PROVIDERS[name] == admit("responses", **{name: PROVIDERS[name]})[name]
    with pytest.raises(Problem, match=name) as refused:
        admit("chat", **{name: PROVIDERS[name]})
    assert (name, "unsupported_parameter") == (refused.value.param, refused.value.code)


def test_a_chat_model_ignores_image_compression_unless_it_is_required() -> None:
    assert admit("chat", image={"context_compression": "auto"})
    with pytest.raises(Problem) as refused:
        admit("chat", image={"context_compression": "enabled"})
    assert "image.context_compression" == refused.value.param


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_image", "file_id": "file_1"},
        {"type": "input_file", "file_id": "file_1"},
        {"type": "input_file", "file_url": "https://files.example/a.pdf"},
    ],
)
def test_files_of_a_provider_pass_only_to_a_provider(part: dict[str, Any]) -> None:
    call = {"type": "function_call", **MEMBERS["function_call"]}
    for item, place in (
        ({"role": "user", "content": [part]}, "content"),
        ({"type": "function_call_output", "call_id": "c", "output": [part]}, "output"),
    ):
        assert admit("responses", input=[call, item])
        with pytest.raises(Problem, match="files by") as refused:
            admit("chat", input=[call, item])
        (name,) = part.keys() - {"type"}
        assert f"input[1].{place}[0].{name}" == refused.value.param


def test_the_setting_of_the_requested_model_decides_whether_tools_are_left_out() -> None:
    assert admit("dropping", tools=[SEARCH])
    with pytest.raises(Problem, match="web_search") as refused:
        admit("refusing", tools=[SEARCH])
    assert "tools[0].type" == refused.value.param


def test_an_error_names_only_models_whose_own_endpoint_supports_the_part() -> None:
    with pytest.raises(Problem, match=r"Use a model that can: responses\.") as refused:
        admit("chat", tools=[SEARCH])
    assert 'unsupported_tools = "drop"' in refused.value.message
    for own in ({"holdline_stop": ["a"]}, {"holdline_seed": 1}):
        with pytest.raises(Problem, match=r"can: both, chat, dropping, dropping_both, refusing\."):
            admit("responses", **own)
    with pytest.raises(Problem, match="files by id") as refused:
        admit("dropping", input=[{"role": "user", "content": [FILE]}])
    assert "unsupported_tools" not in refused.value.message


def test_without_a_models_file_a_model_is_a_chat_model() -> None:
    create = parse_create({"input": "x", "tools": [{"type": "web_search"}], "model": "any"})
    with pytest.raises(Problem, match="Leave it out"):
        check(catalog(""), create, params_of(create, ""), EVERYBODY)
