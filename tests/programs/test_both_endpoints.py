"""Tests programs with both kinds of endpoint: sessions, conversations, steers and hosted tools.

Each program runs several parts, and its argument is a JSON object with the prompts of each part.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.fake_hosted import ITEMS
from tests.fake_wire import Call
from tests.paths.conftest import CHAT, HOSTED, Shared
from tests.programs.running import CALL, SECONDS, has_tokens, run

pytestmark = pytest.mark.timeout(2 * SECONDS)

LOOP = ["message", "function_call", "function_call_output", "message"]
MESSAGE = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi."}]}
COMPACTION = {"type": "compaction", "id": "cmp_up", "encrypted_content": "of-the-provider"}
SLOW = "mode=slow tokens=400 pace=0.05"
HANDOFF = "mode=call name=transfer_to_billing"
MCP = 'mode=call name=docs args={"q":"sky"}'
PROVIDED = ["reasoning", "web_search_call", "file_search_call", "code_interpreter_call"]
PROVIDER_TOOLS = ["web_search", "file_search", "code_interpreter", "image_generation"]
IMAGE = "image_generation_call"
HOSTED_TURN = f"mode=hosted name={','.join([*PROVIDED, IMAGE])}"


async def run_parts(shared: Shared, program: str, parts: dict[str, list[Any]]) -> Any:
    """Runs the parts of a program. Returns the result of each call of each part."""
    return await run(shared, program, json.dumps(parts))


def involved(shared: Shared, prompts: list[str]) -> list[Call]:
    """Returns the model calls, including those for a summary, that contain one of the prompts."""
    marks = [prompt.partition(" ")[0] + " " for prompt in prompts]
    bodies = [(call, json.dumps(call.body)) for call in shared.model.calls]
    return [call for call, body in bodies if any(mark in body for mark in marks)]


def check_compacted(shared: Shared, model: str, prompts: list[str], turns: list[Any]) -> None:
    """Checks a session that was compacted after the second of its three turns."""
    outputs, items = zip(*turns, strict=True)
    assert "Rain in Bern." == outputs[0]
    assert has_tokens(2, outputs[1])
    assert has_tokens(3, outputs[2])
    assert LOOP == items[0]
    *kept, last = items[1]
    assert "compaction" == last
    assert {"message"} == set(kept)
    assert [*items[1], "message", "message"] == items[2]
    # Two calls for the first turn, and one each for the other turns and the compaction.
    assert 5 == len(involved(shared, prompts))
    [call] = shared.calls(prompts[2])
    if model == HOSTED:
        sent = call.body["input"][-2]
        assert COMPACTION["encrypted_content"] == sent["encrypted_content"]
    else:
        summary, asked = [message["content"] for message in call.body["messages"]][-2:]
        assert summary.startswith("The following summary")
        assert prompts[2] == asked


def check_conversation(shared: Shared, prompts: list[str], saw: dict[str, Any]) -> None:
    """Checks two turns in a conversation, the first of them with a call of a function."""
    assert "Rain in Bern." == saw["outputs"][0]
    assert has_tokens(2, saw["outputs"][1])
    assert [*LOOP, "message", "message"] == saw["items"]
    assert [2, 1] == [len(shared.calls(prompt)) for prompt in prompts]
    body = shared.calls(prompts[1])[0].body
    if "messages" in body:
        roles = [message["role"] for message in body["messages"]]
        assert ["system", "user", "assistant", "tool", "assistant", "user"] == roles
    else:
        assert [*LOOP, "message"] == [item["type"] for item in body["input"]]


def check_approval(shared: Shared, prompt: str, approved: bool) -> None:
    """Checks that the endpoint gets an MCP server's settings, and the answer to its request."""
    first, second = shared.calls(prompt)
    [tool] = second.body["tools"]
    assert first.body["tools"] == [tool]
    assert ("mcp", "https://docs.example", "always") == (
        tool["type"],
        tool["server_url"],
        tool["require_approval"],
    )
    assert {"Authorization": "Bearer of-the-server"} == tool["headers"]
    *_, request, answer = second.body["input"]
    assert "mcp_approval_request" == request["type"]
    assert (request["id"], approved) == (answer["approval_request_id"], answer["approve"])


def check_sent_back(shared: Shared, prompt: str) -> None:
    """Checks that a turn sends the items of a provider back as the provider sent them."""
    [call] = shared.calls(prompt)
    items = {item["type"]: item for item in call.body["input"]}
    for item in ITEMS:
        if item["type"] in PROVIDED:
            assert item == {**items[item["type"]], "id": item["id"]}


@pytest.mark.parametrize(
    "program",
    [pytest.param("agents_sessions.py", marks=pytest.mark.heavy), "agents_sessions.mjs"],
)
async def test_the_sessions_the_handoffs_and_the_hosted_tools_of_an_agents_sdk(
    upstreams: Shared, program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDKs for Python and JavaScript run the same parts, with the same outcome."""
    monkeypatch.setattr(upstreams.model, "compacts", [MESSAGE, COMPACTION])
    prompt = upstreams.prompt
    sessions = ((CHAT, "auto"), (CHAT, "input"), (HOSTED, "auto"))
    approvals = ((False, True), (True, True), (False, False))
    refused = prompt(MCP)
    parts: dict[str, list[Any]] = {
        "compacted": [
            (*session, [prompt(CALL), prompt("tokens=2"), prompt("tokens=3")])
            for session in sessions
        ],
        "conversation": [(model, [prompt(CALL), prompt("tokens=2")]) for model in (CHAT, HOSTED)],
        "by_id": [(model, [prompt(CALL), prompt("tokens=2")]) for model in (CHAT, HOSTED)],
        "handoff": [(CHAT, socket, prompt(HANDOFF)) for socket in (False, True)],
        "mcp": [(HOSTED, *approval, prompt(MCP)) for approval in approvals],
        "hosted": [(HOSTED, [prompt(HOSTED_TURN), prompt("tokens=2")])],
    }
    parts["mcp"].append((CHAT, False, True, refused))
    saw = await run_parts(upstreams, program, parts)

    for (model, _, asked), turns in zip(parts["compacted"], saw["compacted"], strict=True):
        check_compacted(upstreams, model, asked, turns)
    for part in ("conversation", "by_id"):
        for (_, asked), seen in zip(parts[part], saw[part], strict=True):
            check_conversation(upstreams, asked, seen)
    for seen in saw["conversation"]:
        assert ["message", "message"] == seen["newest"]
        assert seen["outputs"][1].strip() == seen["popped"]
        assert [*LOOP, "message"] == seen["left"]
        assert "conversation_not_found" == seen["gone"]

    for (_, _, asked), (output, agent) in zip(parts["handoff"], saw["handoff"], strict=True):
        assert ({"assistant": "billing"}, "billing") == (json.loads(output), agent)
        bodies = [call.body["messages"] for call in upstreams.calls(asked)]
        instructions = [messages[0]["content"] for messages in bodies]
        assert ["You are triage.", "You are billing."] == instructions
        roles = [message["role"] for message in bodies[1]]
        assert ["system", "user", "assistant", "tool"] == roles

    *answered, refusal = saw["mcp"]
    for (_, _, approved, asked), seen in zip(parts["mcp"][:-1], answered, strict=True):
        check_approval(upstreams, asked, approved)
        output = "found" if approved else "refused"
        assert {"output": output, "requests": [["docs", "find", '{"q":"sky"}']]} == seen
    # The SDK shows the error as a Python literal, which escapes the quotes.
    told = refusal["refused"].replace("\\", "")
    assert f"of the type 'mcp'. Use a model that can: {HOSTED}." in told
    assert [] == upstreams.calls(refused)

    [(_, asked)], [outputs] = parts["hosted"], saw["hosted"]
    assert has_tokens(20, outputs[0])
    assert has_tokens(2, outputs[1])
    [first], [second] = (upstreams.calls(turn) for turn in asked)
    assert PROVIDER_TOOLS == [tool["type"] for tool in first.body["tools"]]
    kinds = [item["type"] for item in second.body["input"]]
    assert ["message", *PROVIDED, IMAGE, "message", "message"] == kinds
    check_sent_back(upstreams, asked[1])


async def test_conversations_and_the_tools_of_a_provider_with_the_vercel_ai_sdk(
    upstreams: Shared,
) -> None:
    prompt = upstreams.prompt
    query = {CHAT: '{"input":"select_1"}', HOSTED: "select_1"}
    both = (True, False)
    refused = prompt()
    parts: dict[str, list[Any]] = {
        "conversation": [(model, [prompt(CALL), prompt("tokens=2")]) for model in (CHAT, HOSTED)],
        "hosted": [(HOSTED, store, [prompt(HOSTED_TURN), prompt("tokens=2")]) for store in both],
        "custom": [
            (model, store, prompt(f"mode=call name=sql args={args}"))
            for model, args in query.items()
            for store in both
        ],
        "mcp": [(HOSTED, approved, prompt(MCP)) for approved in both],
        "refused": [(CHAT, refused)],
    }
    saw = await run_parts(upstreams, "ai_tools.mjs", parts)

    for (_, asked), seen in zip(parts["conversation"], saw["conversation"], strict=True):
        assert "Rain in Bern." == seen["outputs"][0]
        assert has_tokens(2, seen["outputs"][1])
        # With the result of a call, the SDK sends the user's message again.
        again = ["message", "function_call", "message", "function_call_output"]
        assert [*again, "message", "message", "message"] == seen["items"]
        assert [2, 1] == [len(upstreams.calls(turn)) for turn in asked]

    for (_, _, asked), seen in zip(parts["hosted"], saw["hosted"], strict=True):
        assert has_tokens(20, seen["outputs"][0])
        assert has_tokens(2, seen["outputs"][1])
        results = seen["results"]
        assert "https://a.example" == results["search"]["sources"][0]["url"]
        assert "blue" == results["files"]["results"][0]["text"]
        assert [{"type": "logs", "logs": "é"}] == results["python"]["outputs"]
        assert results["draw"]["result"]
        assert ["reasoning", "text"] == [seen["kinds"][0], seen["kinds"][-1]]
        [first], [second] = (upstreams.calls(turn) for turn in asked)
        assert PROVIDER_TOOLS == [tool["type"] for tool in first.body["tools"]]
        items = {item["type"]: item for item in second.body["input"]}
        assert "sealed" == items["reasoning"]["encrypted_content"]
        assert "sky" == items["web_search_call"]["action"]["query"]
    # With `store`, the SDK refers to all items. Without, it sends only some of them.
    check_sent_back(upstreams, parts["hosted"][0][2][1])

    for (_, _, asked), seen in zip(parts["custom"], saw["custom"], strict=True):
        assert {"text": "two rows", "inputs": ["select_1"]} == seen
        assert 2 == len(upstreams.calls(asked))

    for (_, approved, asked), seen in zip(parts["mcp"], saw["mcp"], strict=True):
        check_approval(upstreams, asked, approved)
        output = "found" if approved else "refused"
        assert {"output": output, "request": ["mcp.find", {"q": "sky"}]} == seen
    [refusal] = saw["refused"]
    assert f"of the type 'web_search'. Use a model that can: {HOSTED}." in refusal
    assert [] == upstreams.calls(refused)


async def test_the_helpers_of_the_node_sdk(upstreams: Shared) -> None:
    prompt = upstreams.prompt
    models = (CHAT, HOSTED)
    ways = (
        (CHAT, False, False),
        (HOSTED, True, False),
        (HOSTED, False, True),
        (HOSTED, True, True),
    )
    parts: dict[str, list[Any]] = {
        "conversations": [(CHAT, "Hi.", prompt("tokens=2"))],
        "compact": [(model, prompt("tokens=2"), prompt("tokens=3")) for model in models],
        "count": [(CHAT,)],
        "steer": [(model, prompt(SLOW), prompt("tokens=3")) for model in models],
        "steer_call": [(CHAT, prompt(f"mode=call args={'9' * 3000}"), prompt("tokens=3"))],
        "runner": [(*way, prompt(MCP if way[-1] else CALL)) for way in ways],
    }
    saw = await run_parts(upstreams, "node_helpers.mjs", parts)

    [(_, added, asked)], [seen] = parts["conversations"], saw["conversations"]
    assert ["demo", "other"] == seen["topics"]
    assert has_tokens(2, seen["answer"])
    assert [added, asked, seen["answer"], "more"] == seen["listed"]
    assert ("more", 3, True) == (seen["found"], seen["left"], seen["deleted"])
    assert "conversation_not_found" == seen["gone"]
    assert 1 == len(upstreams.calls(asked))

    for (_, first, second), seen in zip(parts["compact"], saw["compact"], strict=True):
        assert ["message", "compaction"] == seen["items"]
        assert has_tokens(3, seen["answer"])
        assert 3 == len(involved(upstreams, [first, second]))

    [[short, long]] = saw["count"]
    assert 900 == long - short

    for (_, first, second), seen in zip(parts["steer"], saw["steer"], strict=True):
        ended, successor = seen["responses"]
        assert {"reason": "steered"} == ended["incomplete_details"]
        assert ended["id"] == successor["previous_response_id"]
        kinds = seen["kinds"]
        assert kinds.index("response.steer.accepted") < kinds.index("response.incomplete")
        assert 2 == kinds.count("response.created")
        assert has_tokens(3, seen["texts"][1])
        assert [1, 1] == [len(upstreams.calls(text)) for text in (first, second)]
        [call] = upstreams.calls(second)
        assert seen["texts"][0].strip() in json.dumps(call.body)

    [(_, first, second)], [seen] = parts["steer_call"], saw["steer_call"]
    assert ["function_call_output", "weather"] == seen["owed"]
    assert has_tokens(3, seen["answer"])
    assert [1, 1] == [len(upstreams.calls(text)) for text in (first, second)]
    roles = [message["role"] for message in upstreams.calls(second)[0].body["messages"]]
    assert ["user", "assistant", "tool", "user"] == roles

    for (*_, mcp, asked), seen in zip(parts["runner"], saw["runner"], strict=True):
        assert ("found" if mcp else "Rain in Bern.") == seen["output"]
        assert ([["docs", "find"]] if mcp else []) == seen["asked"]
        assert 2 == len(upstreams.calls(asked))
