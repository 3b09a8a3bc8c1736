"""Tests several models: the order of calls, fallbacks, and the cost of an attempt."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from jobs.config.settings import ConfigError
from jobs.log.log import read
from jobs.names import queue_name_of
from jobs.queue import Queue
from jobs.record import SharedSettings, Status
from jobs.redis.pipe import Pipe
from tests.fake_model import FakeModel
from tests.jobs.factories import a_job, opening
from tests.replay import ReplayedEndpoint, replies_of
from tests.system import System, wait_until
from tests.worker.conftest import MakeHarness
from tests.worker.harness import Harness, response, said
from worker.config import load


def file(tmp_path: Path, one: FakeModel, two: FakeModel, more: str = "", last: str = "") -> str:
    """Writes a models file in which `two` is the fallback of `one`."""
    path = tmp_path / "models.toml"
    path.write_text(
        f'[models.one]\nbase_url = "{one.url}"\nmodel = "first"\nfallbacks = ["two"]\n{more}\n'
        f'[models.two]\nbase_url = "{two.url}"\nmodel = "second"\n{last}\n'
    )
    return str(path)


@contextlib.asynccontextmanager
async def pair(
    make_harness: MakeHarness, tmp_path: Path, first: str, second: str = "ok", more: str = ""
) -> AsyncIterator[tuple[Harness, FakeModel, FakeModel]]:
    async with (
        FakeModel(mode=first) as one,
        FakeModel(mode=second) as two,
        make_harness(HOLDLINE_MODELS=file(tmp_path, one, two, more)) as harness,
    ):
        yield harness, one, two


async def test_the_name_of_the_limit_and_stream_options_can_be_set_for_each_model(
    make_harness: MakeHarness, tmp_path: Path
) -> None:
    more = 'output_limit = "max_completion_tokens"\nstream_options = false'
    async with pair(make_harness, tmp_path, "ok", more=more) as (harness, one, _):
        await harness.execute("hi", model="one", max_output_tokens=7)
        body = one.calls[0].body
        assert (7, None, None) == tuple(
            body.get(name) for name in ("max_completion_tokens", "max_tokens", "stream_options")
        )


async def test_an_argument_refused_by_a_model_is_omitted_from_then_on(
    make_harness: MakeHarness, tmp_path: Path
) -> None:
    vectors = Path(__file__).parents[2] / "vectors" / "endpoints" / "stream-options-refused"
    async with ReplayedEndpoint(replies_of(vectors)) as endpoint:
        path = tmp_path / "models.toml"
        path.write_text(f'[models.m]\nbase_url = "{endpoint.url}"\n')
        async with make_harness(HOLDLINE_MODELS=str(path)) as harness:
            for _ in range(2):
                view = await harness.execute("hi")
                assert Status.COMPLETED is view.status
        assert [True, False, False] == ["stream_options" in body for body in endpoint.bodies]


@pytest.mark.parametrize(
    "mode", ["503", "500", "busy", "401", "402", "404", "drop", "html", "headers", "silent"]
)
async def test_the_fallback_answers_if_the_first_model_cannot_start(
    make_harness: MakeHarness, tmp_path: Path, mode: str
) -> None:
    async with pair(make_harness, tmp_path, mode, more="first_token_seconds = 0.3") as made:
        harness, one, two = made
        view = await harness.execute("hi", model="one")
        assert Status.COMPLETED is view.status
        answer = response(await harness.events(harness.only))
        assert ("two", 1) == (answer["holdline"]["model"], answer["holdline"]["attempts"])
        assert "one" == answer["model"]
        assert ["first"] == [call.body["model"] for call in one.calls]
        assert ["second"] == [call.body["model"] for call in two.calls]
        assert said(await harness.events(harness.only)) == two.calls[0].sent
        await harness.execute("again", model="one")
        assert (1, 2) == (len(one.calls), len(two.calls)), "it is not waited for a second time"


async def test_the_first_model_is_preferred_while_it_is_available(
    make_harness: MakeHarness, tmp_path: Path
) -> None:
    async with pair(make_harness, tmp_path, "ok") as (harness, one, two):
        await harness.execute("hi", model="one")
        assert "one" == response(await harness.events(harness.only))["holdline"]["model"]
        assert (1, 0) == (len(one.calls), len(two.calls))


@pytest.mark.parametrize("mode", ["400", "eof", "rst"])
async def test_no_fallback_after_a_rejected_request_or_partial_output(
    make_harness: MakeHarness, tmp_path: Path, mode: str
) -> None:
    """A rejected request or a failure after the first delta is not retried with a fallback."""
    async with pair(make_harness, tmp_path, mode) as (harness, _, two):
        await harness.execute("hi", model="one")
        assert 0 == len(two.calls)


@pytest.mark.parametrize("apis", [("chat", "responses", "chat"), ("responses", "chat", "chat")])
async def test_a_model_whose_api_lacks_a_parameter_is_skipped(
    make_harness: MakeHarness, tmp_path: Path, apis: tuple[str, ...]
) -> None:
    """Two models support the parameter; the second answers while the first is unavailable."""
    async with FakeModel(mode="503") as away, FakeModel() as other, FakeModel() as last:
        first, second = (away, other) if apis[0] == "chat" else (other, away)
        path = tmp_path / "models.toml"
        path.write_text(
            "".join(
                f'[models.{name}]\nbase_url = "{model.url}"\napi = "{api}"\n'
                for name, model, api in zip("abc", (first, second, last), apis, strict=True)
            ).replace("[models.b]", 'fallbacks = ["b", "c"]\n[models.b]')
        )
        async with make_harness(HOLDLINE_MODELS=str(path)) as harness:
            view = await harness.execute("hi", model="a", holdline_stop=["x"])
            assert Status.COMPLETED is view.status
            assert "c" == response(await harness.events(harness.only))["holdline"]["model"]
        assert (1, 0, 1) == (len(away.calls), len(other.calls), len(last.calls))
        assert ["x"] == last.calls[0].body["stop"]


@pytest.mark.parametrize("setting", ["refuse", "drop"])
async def test_the_setting_of_the_requested_model_decides_whether_tools_are_left_out(
    make_harness: MakeHarness, tmp_path: Path, setting: str
) -> None:
    """Neither the chat model nor its first fallback drops tools, unless the model is set to."""
    other = {"refuse": "drop", "drop": "refuse"}[setting]
    async with FakeModel(mode="503") as away, FakeModel() as chat, FakeModel() as last:
        path = tmp_path / "models.toml"
        path.write_text(
            f'[models.a]\nbase_url = "{away.url}"\nunsupported_tools = "{setting}"\n'
            'fallbacks = ["b", "c"]\n'
            f'[models.b]\nbase_url = "{chat.url}"\nunsupported_tools = "{other}"\n'
            f'[models.c]\nbase_url = "{last.url}"\napi = "responses"\n'
        )
        async with make_harness(HOLDLINE_MODELS=str(path)) as harness:
            await harness.execute("hi", model="a", tools=[{"type": "web_search"}])
        calls = (len(away.calls), len(chat.calls), len(last.calls))
        assert {"refuse": (0, 0, 1), "drop": (1, 1, 0)}[setting] == calls


async def test_a_parameter_that_no_model_supports_fails_the_job(
    make_harness: MakeHarness, tmp_path: Path
) -> None:
    path = tmp_path / "models.toml"
    path.write_text('[models.r]\nbase_url = "http://127.0.0.1:9"\napi = "responses"\n')
    async with make_harness(HOLDLINE_MODELS=str(path)) as harness:
        await harness.execute("hi", model="r", holdline_seed=0)
        assert "unsupported_input" == response(await harness.events(harness.only))["error"]["code"]


async def test_a_transient_error_is_retried_if_no_model_can_start(
    make_harness: MakeHarness, tmp_path: Path
) -> None:
    async with pair(make_harness, tmp_path, "401", "503") as (harness, one, two):
        view = await harness.execute("hi", model="one", attempts=3)
        assert Status.FAILED is view.status
        assert "upstream_busy" == response(await harness.events(harness.only))["error"]["code"]
        assert (3, 3) == (len(one.calls), len(two.calls))


async def test_a_model_missing_from_the_file_is_not_called(
    make_harness: MakeHarness, tmp_path: Path
) -> None:
    async with pair(make_harness, tmp_path, "ok") as (harness, one, two):
        await harness.execute("hi", model="three")
        found = response(await harness.events(harness.only))
        assert "upstream_model_not_found" == found["error"]["code"]
        assert "model" not in found["holdline"]
        assert (0, 0) == (len(one.calls), len(two.calls))


async def test_a_fallback_stays_within_its_own_concurrency_limit(
    make_harness: MakeHarness, tmp_path: Path
) -> None:
    async with (
        FakeModel(mode="503") as one,
        FakeModel(mode="slow", tokens=10) as two,
        make_harness(HOLDLINE_MODELS=file(tmp_path, one, two, last="concurrency = 1")) as harness,
    ):
        ids = [await harness.submit(f"hi {n}", model="one") for n in range(3)]
        works = [harness.execution(await harness.claim()) for _ in ids]
        await asyncio.gather(*(work.run() for work in works))
        for id_ in ids:
            assert Status.COMPLETED is (await harness.view(id_)).status
        most = max(sum(a.began <= b.began < (a.ended or 0) for a in two.calls) for b in two.calls)
        assert (3, 1) == (len(two.calls), most)


def test_missing_environment_variables_are_named(tmp_path: Path) -> None:
    path = tmp_path / "models.toml"
    path.write_text('[models.m]\napi_key_env = "SOME_KEY"\ntimeout_seconds = 1000\n')
    environ = {"HOLDLINE_MODELS": str(path)}
    with pytest.raises(ConfigError, match=r"\[models.m\] api_key_env names SOME_KEY"):
        load(environ)
    environ["SOME_KEY"] = "sk-secret"
    with pytest.raises(
        ConfigError, match=r"\[models.m\] timeout_seconds.*HOLDLINE_MODEL_TIMEOUT_SECONDS"
    ):
        load(environ)
    config = load({**environ, "HOLDLINE_MODEL_TIMEOUT_SECONDS": "1000"})
    assert "sk-secret" == config.routes("m")[0].api_key
    assert "sk-secret" not in repr(config)
    assert [] == config.routes("other")


async def ask(queue: Queue, model: str) -> str:
    job = a_job(model=model)
    await queue.submit(job, opening(job), queue_name=queue_name_of(None, model))
    return job.id


async def ended(pipe: Pipe, id_: str) -> None:
    async def has_ended() -> bool:
        return (await read(pipe, id_, 0, max_entries=0)).status.ended

    await wait_until(has_ended)


async def test_a_model_at_its_limit_does_not_delay_other_models(
    system: System, pipe: Pipe, tmp_path: Path
) -> None:
    """Three jobs wait for a model with one slot; a job for another model starts at once."""
    async with FakeModel(mode="headers") as one, FakeModel() as two:
        path = file(tmp_path, one, two, "concurrency = 1")
        queue = Queue(pipe, SharedSettings())
        slow = [await ask(queue, "one") for _ in range(3)]
        await system.worker("", HOLDLINE_MODELS=path, HOLDLINE_MODEL="", HOLDLINE_CONCURRENCY="2")
        await wait_until(lambda: one.calls)
        quick = [await ask(queue, "two") for _ in range(3)]
        for id_ in quick:
            await ended(pipe, id_)
        assert (1, 3) == (len(one.calls), len(two.calls))
        states = [(await read(pipe, id_, 0, max_entries=0)).status for id_ in slow]
        assert [Status.QUEUED, Status.QUEUED, Status.RUNNING] == sorted(states)
        # A slot that becomes free is used at once, not only at the next poll.
        one.script["mode"] = "ok"
        [running] = [id_ for id_, state in zip(slow, states, strict=True) if state == "running"]
        await queue.cancel(running, 0, [])
        for id_ in slow:
            await ended(pipe, id_)
        assert 3 == len(one.calls)
