"""Tests unmodified third-party SDKs that know only the base URL of a server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fake_continuing import answer
from tests.fake_wire import Script
from tests.paths.conftest import Shared, running_system
from tests.programs.running import CALL, SECONDS, has_tokens, run

pytestmark = pytest.mark.timeout(2 * SECONDS)

CONTINUES = """
default = "m"
[models.m]
base_url = "{url}"
continues = "vllm"
"""


async def test_the_node_sdk(shared: Shared) -> None:
    asked, streamed, over, chatted = (shared.prompt(f"tokens={n}") for n in (3, 5, 7, 9))
    saw = await run(shared, "node_sdk.mjs", asked, streamed, over, shared.prompt(CALL), chatted)
    assert has_tokens(3, saw["plain"])
    assert saw["plain"] == saw["again"]
    assert has_tokens(5, saw["streamed"])
    assert saw["streamed"] == saw["final"]
    assert "response.in_progress" == saw["kinds"][0]
    assert "response.completed" == saw["kinds"][-1]
    assert 'Rain: {"location":"Bern"}' == saw["loop"]
    assert has_tokens(9, saw["chat"])
    assert has_tokens(7, saw["heard"])
    assert "completed" == saw["ended"]
    assert ("response.created", "response.completed") == (saw["told"][0], saw["told"][-1])
    assert [] == [kind for kind in saw["told"] if kind.startswith("holdline:")]
    assert 1 == len(shared.calls(over))


async def test_the_vercel_ai_sdk(shared: Shared) -> None:
    asked, streamed = shared.prompt("tokens=3"), shared.prompt("tokens=5")
    shaped = shared.prompt('say={"city":"Bern"}')
    called, chatted = shared.prompt(CALL), shared.prompt(CALL)
    saw = await run(shared, "ai_sdk.mjs", asked, streamed, called, shaped, chatted)
    assert has_tokens(3, saw["plain"])
    assert "stop" == saw["reason"]
    assert has_tokens(5, saw["streamed"])
    assert 12 == saw["usage"]["totalTokens"]
    assert ("Rain in Bern.", 2) == (saw["loop"], saw["steps"])
    assert {"city": "Bern"} == saw["object"]
    assert "Rain in Bern." == saw["older"]
    assert "json_schema" == shared.calls(shaped)[0].body["response_format"]["type"]


async def test_what_the_clients_for_node_show_of_a_restarted_answer(shared: Shared) -> None:
    prompts = [shared.prompt("mode=eof times=1 tokens=6") for _ in range(4)]
    agents, ai, events, helper = await run(shared, "restarted.mjs", *prompts)
    cut, whole = zip(*([call.sent for call in shared.calls(p)] for p in prompts), strict=True)
    assert {"streamed": cut[0] + whole[0], "final": whole[0]} == agents
    assert {"streamed": cut[1] + whole[1], "final": cut[1] + whole[1]} == ai
    assert {"streamed": whole[2], "final": whole[2]} == events
    shown = {"streamed": cut[3] + whole[3], "cleared": whole[3], "final": whole[3]}
    assert shown == helper


async def test_the_clients_for_node_show_a_continued_answer_once(tmp_path: Path) -> None:
    text = "".join(answer(Script(tokens=20)))
    with running_system(tmp_path, CONTINUES) as shared:
        prompts = [shared.prompt("mode=breaking tokens=20 at=13") for _ in range(4)]
        agents, ai, events, helper = await run(shared, "restarted.mjs", *prompts)
        calls = [shared.calls(prompt) for prompt in prompts]
    assert {"streamed": text, "final": text} == agents == ai == events
    assert {"streamed": text, "cleared": text, "final": text} == helper
    assert [[text[:65], text[65:]]] * 4 == [[call.sent for call in each] for each in calls]


async def test_the_agents_sdk_over_http_and_websocket(shared: Shared) -> None:
    prompts = shared.prompt(CALL), shared.prompt(CALL)
    saw = await run(shared, "agents_sdk.py", *prompts)
    for way, prompt in zip(("http", "socket"), prompts, strict=True):
        assert ("Rain in Bern.", 2) == (saw[way]["output"], saw[way]["turns"])
        kinds = ["tool_call_item", "tool_call_output_item", "message_output_item"]
        assert kinds == saw[way]["items"]
        messages = shared.calls(prompt)[-1].body["messages"]
        assert ["system", "user", "assistant", "tool"] == [m["role"] for m in messages]


CALLS = {
    "shell": ('{"commands":["ls","pwd"]}', ["ls", "pwd"], "of the shell"),
    "local_shell": ('{"command":["ls"]}', ["ls"], "of the local shell"),
    "apply_patch": ('{"type":"create_file","path":"a","diff":"+b"}', ["a", "+b"], "completed"),
    "sql": ('{"input":"select_1"}', "select_1", "of the database"),
    "crm__find": ('{"customer":"7"}', "7", "of the customer"),
}


async def test_the_client_side_tools_of_the_agents_sdk(shared: Shared) -> None:
    prompts = [
        shared.prompt(f"mode=call name={name} args={call[0]}") for name, call in CALLS.items()
    ]
    saw = await run(shared, "agents_tools.py", *prompts)
    assert [call[1] for call in CALLS.values()] * 2 == saw["done"]
    told = zip(saw["outputs"], [*CALLS.values(), *CALLS.values()], strict=True)
    assert all(call[2] in output for output, call in told)


async def test_langchain(shared: Shared) -> None:
    asked, streamed = shared.prompt("tokens=3"), shared.prompt("tokens=5")
    chatted = shared.prompt("tokens=9")
    saw = await run(shared, "langchain_chat.py", asked, streamed, shared.prompt(CALL), chatted)
    assert has_tokens(3, saw["plain"])
    assert has_tokens(5, saw["streamed"])
    assert (7, 3) == (saw["usage"]["input_tokens"], saw["usage"]["output_tokens"])
    assert "Rain in Bern." == saw["loop"]
    assert has_tokens(9, saw["older"])
