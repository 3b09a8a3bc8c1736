"""Tests that valid models files are accepted and that errors name the place in the file."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.config.models import Price
from jobs.config.models import catalog as parsed
from jobs.config.settings import ConfigError
from jobs.config.shared_config import catalog
from jobs.config.toml import InvalidTable

WHOLE = """
default = "fast"
[models.fast]
base_url = "http://me:hush@localhost:1/v1"
model = "llama3.2"
api = "responses"
concurrency = 8
first_token_seconds = 20
stall_timeout_seconds = 2.5
timeout_seconds = 300
output_limit = "max_completion_tokens"
stream_options = false
fallbacks = ["gpt-4.1-mini"]
price = { input = 1, output = 2.5 }
[models."gpt-4.1-mini"]
api_key_env = "OPENAI_API_KEY"
[prompts.greet]
instructions = "Greet."
"""


def test_a_model_of_the_responses_api_may_drop_tools_for_its_fallbacks() -> None:
    fallback = "[models.f]\nbase_url = 'http://h'\n"
    found = parsed(
        fallback + "[models.m]\nbase_url = 'http://h'\napi = 'responses'\n"
        "unsupported_tools = 'drop'\nfallbacks = ['f']"
    )
    assert (True, False) == (found.drops("m"), found.drops("f"))


def test_a_complete_models_file_is_read() -> None:
    found = parsed(WHOLE)
    fast, mini = found.models["fast"], found.models["gpt-4.1-mini"]
    assert "fast" == found.default
    assert ("llama3.2", "responses", 8, 20, 2.5, 300) == (
        fast.model,
        fast.api,
        fast.concurrency,
        fast.first_token_seconds,
        fast.stall_timeout_seconds,
        fast.timeout_seconds,
    )
    assert (("gpt-4.1-mini",), Price(1, 2.5)) == (fast.fallbacks, fast.price)
    assert ("max_completion_tokens", False) == (fast.output_limit, fast.stream_options)
    assert (None, True) == (mini.output_limit, mini.stream_options)
    assert (None, None, "OPENAI_API_KEY", "chat") == (
        mini.model,
        mini.base_url,
        mini.api_key_env,
        mini.api,
    )
    assert found.knows("fast")
    assert not found.knows("faster")
    assert "hush" not in repr(found)


def test_any_model_name_is_accepted_without_a_models_file() -> None:
    assert parsed("").knows("anything")
    assert parsed("[prompts.a]\n").knows("anything")
    assert catalog({"HOLDLINE_MODEL": "m"}).knows("anything")


ONE = '[models.m]\nbase_url = "http://h"\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[models.m\n", r"invalid TOML.*line 1"),
        ("[modells.m]\n", r"modells is unknown"),
        ("models = 1", "models must be a table"),
        ("[models]\nm = 1", r"\[models\] m must be a table"),
        ("[models.m]\n", r"\[models.m\] base_url is missing"),
        ("[models.gpt-4.1-mini]\napi_key_env = 'K'\n", r"\[models.gpt-4\].*"),
        (ONE + "[models.gpt-4]\napi_key_env = 'K'\n[models.gpt-4.1]\n", r"must be quoted"),
        ("[models.'a|b']\n", "not a valid name"),
        (ONE + "bas_url = 'x'", r"\[models.m\] bas_url is unknown; did you mean base_url"),
        ("[models.m]\nbase_url = 'localhost'", "must be a URL that begins with http"),
        ("[models.m]\nbase_url = ''", "must be a URL"),
        (ONE + "api_key_env = 'sk-1234'", "api_key_env must be the name"),
        (ONE + "api = 'latin'", "api must be chat or responses"),
        (ONE + "unsupported_tools = 'keep'", "unsupported_tools must be (drop|refuse) or"),
        (ONE + "api = 'responses'\nunsupported_tools = 'drop'", "unsupported_tools has no effect"),
        (ONE + "background = true", r"\[models.m\] background requires api = .responses."),
        (
            ONE + "api = 'responses'\ncontinues = 'vllm'",
            r"\[models.m\] continues requires api = .chat.",
        ),
        (ONE + "continues = 'text'", "continues must be (assistant|prefix|vllm)"),
        (ONE + "on_worker_death = 'die'", "on_worker_death must be (continue|fail|restart)"),
        (ONE + "concurrency = 0", "between 1 and 1000"),
        (ONE + "concurrency = 1.5", "whole number"),
        (ONE + "concurrency = true", "concurrency must be a whole number"),
        (ONE + "dialect = 'responses'", r"\[models.m\] dialect is unknown.*mean api\?"),
        (ONE + "silence_seconds = 1", "did you mean stall_timeout_seconds"),
        (ONE + "total_seconds = 1", r"did you mean timeout_seconds\?"),
        (ONE + "timeout_seconds = inf", "timeout_seconds must be a number between 0.1 and 86400"),
        (ONE + "requests_per_minute = 0", "whole number between 1 and 1000000000$"),
        (ONE + "fallbacks = ['m', 2]", r"\[models.m\] fallbacks\[1\] must be a string"),
        (ONE + "model = ' '", "model must be a non-empty string"),
        (ONE + "price = 3", r"\[models.m\] price must be a table"),
        (ONE + "price = { input = 1, output = 'much' }", r"\[models.m.price\] output must be"),
        (ONE + "stall_timeout_seconds = nan", "between"),
        (ONE + "fallbacks = 'm'", "list of strings"),
        (ONE + "fallbacks = ['n']", r"\[models.m\] fallbacks contains 'n'.*known models: m"),
        (ONE + "fallbacks = ['m']", "repeats 'm'"),
        (ONE + "price = { input = 1 }", r"\[models.m.price\] output is missing"),
        (ONE + "price = { input = 1, output = 2, tokens = 3 }", "tokens is unknown"),
        ("default = 'n'\n" + ONE, "default is 'n'.*known models: m"),
    ],
)
def test_the_error_names_the_invalid_value(text: str, says: str) -> None:
    with pytest.raises(InvalidTable, match=says) as caught:
        parsed(text)
    assert "sk-1234" not in str(caught.value)


@given(st.text())
def test_any_text_is_parsed_or_rejected_with_an_error(text: str) -> None:
    with contextlib.suppress(InvalidTable):
        parsed(text)


def test_an_error_of_the_models_file_names_the_file_and_the_place(tmp_path: Path) -> None:
    path = tmp_path / "models.toml"
    environ = {"HOLDLINE_MODELS": str(path)}
    with pytest.raises(
        ConfigError, match=r"HOLDLINE_MODELS=.*models.toml: the file cannot be read"
    ):
        catalog(environ)
    path.write_text("default = 3")
    with pytest.raises(ConfigError, match=r"models.toml: default must be a non-empty string"):
        catalog(environ)
    path.write_text(WHOLE)
    assert "fast" == catalog(environ).default
    assert "gpt-4.1-mini" == catalog({**environ, "HOLDLINE_MODEL": "gpt-4.1-mini"}).default
    with pytest.raises(ConfigError, match=r"HOLDLINE_MODEL=other is not in .*known models: fast"):
        catalog({**environ, "HOLDLINE_MODEL": "other"})
