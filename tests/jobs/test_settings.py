"""Tests the accepted values of the shared settings, and errors that name an invalid setting."""

from __future__ import annotations

import pytest

from jobs.config import settings as env
from jobs.config import shared_config
from jobs.config.settings import RENAMED, ConfigError, help_text
from jobs.config.settings_table import SETTINGS
from jobs.ids import MAX_PARTITIONS
from jobs.record import SharedSettings


@pytest.mark.parametrize(
    ("name", "value"),
    [("HOLDLINE_PORT", "tcp://"), ("HOLDLINE_PORT", "80a"), ("HOLDLINE_PORT", "http://a:80")],
)
def test_a_wrong_port_is_still_an_error(name: str, value: str) -> None:
    with pytest.raises(env.ConfigError, match=name):
        env.whole({name: value}, name)


def test_every_setting_has_a_default() -> None:
    assert SharedSettings() == shared_config.shared_settings({})
    assert "redis://127.0.0.1:6379/0" == shared_config.redis_url({})


def test_every_known_name_is_accepted() -> None:
    env.check_names(dict.fromkeys(SETTINGS, "anything"))


def test_variables_without_the_prefix_are_ignored() -> None:
    env.check_names({"PATH": "/bin", "OPENAI_ORG": "x", "MY_HOLDLINE_PORT": "1"})


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [
        ("HOLDLINE_PROT", "HOLDLINE_PORT"),
        ("HOLDLINE_LEASE", "HOLDLINE_LEASE_SECONDS"),
        ("HOLDLINE_port", "HOLDLINE_PORT"),
        ("HOLDLINE_MAX_ATTEMPT", "HOLDLINE_MAX_ATTEMPTS"),
        ("HOLDLINE_TIMEOUT", "HOLDLINE_STALL_TIMEOUT_SECONDS"),
        ("HOLDLINE_REDIS_URL", "REDIS_URL"),
        ("HOLDLINE_OPENAI_API_KEY", "OPENAI_API_KEY"),
    ],
)
def test_the_error_of_an_unknown_setting_suggests_the_nearest_name(
    wrong: str, nearest: str
) -> None:
    with pytest.raises(ConfigError, match=f"{wrong} is not a setting.* {nearest} "):
        env.check_names({wrong: "1"})


@pytest.mark.parametrize("wrong", ["HOLDLINE_X", "HOLDLINE_ZZYZX"])
def test_no_setting_is_suggested_for_a_name_that_resembles_none(wrong: str) -> None:
    with pytest.raises(ConfigError, match=f"{wrong} is not a setting; --help"):
        env.check_names({wrong: "1"})


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_the_error_of_a_renamed_setting_names_the_new_one(old: str, new: str) -> None:
    assert new in SETTINGS
    with pytest.raises(ConfigError, match=f"^{old} was renamed: set {new} instead$"):
        env.check_names({old: "1"})


def test_the_help_of_a_program_lists_its_settings() -> None:
    assert "HOLDLINE_PORT\n" in help_text("server")
    assert "HOLDLINE_CONCURRENCY\n" not in help_text("server")
    assert "default: 100 (1 to 1000)\n" in help_text("worker")
    for program in ("server", "worker"):
        assert "REDIS_URL\n" in help_text(program)
        assert "HOLDLINE_PROCESSES\n" in help_text(program)
        assert "HOLDLINE_TOKEN\n" not in help_text(program)
        assert "](" not in help_text(program)


def test_an_empty_value_counts_as_not_set() -> None:
    assert 15_000 == shared_config.shared_settings({"HOLDLINE_LEASE_SECONDS": "  "}).lease_ms


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HOLDLINE_LEASE_SECONDS", "soon"),
        ("HOLDLINE_LEASE_SECONDS", "0"),
        ("HOLDLINE_LEASE_SECONDS", "-1"),
        ("HOLDLINE_LEASE_SECONDS", "nan"),
        ("HOLDLINE_LEASE_SECONDS", "inf"),
        ("HOLDLINE_RETENTION_SECONDS", "1e99"),
        ("HOLDLINE_MAX_ATTEMPTS", "0"),
        ("HOLDLINE_PARTITIONS", str(MAX_PARTITIONS + 1)),
        ("HOLDLINE_MAX_WAITING", "0"),
        ("HOLDLINE_ON_WORKER_DEATH", "shrug"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name} must be "):
        shared_config.shared_settings({name: value})


def test_the_last_partition_is_bounded() -> None:
    last = {"HOLDLINE_FIRST_PARTITION": str(MAX_PARTITIONS - 16), "HOLDLINE_PARTITIONS": "16"}
    assert range(MAX_PARTITIONS - 16, MAX_PARTITIONS) == shared_config.partitions(last)
    wrong = last | {"HOLDLINE_PARTITIONS": "17"}
    with pytest.raises(ConfigError, match=r"^HOLDLINE_FIRST_PARTITION=4080 must be at most 4079 "):
        shared_config.shared_settings(wrong)


def test_seconds_become_milliseconds() -> None:
    settings = shared_config.shared_settings(
        {
            "HOLDLINE_LEASE_SECONDS": "0.3",
            "HOLDLINE_RETENTION_SECONDS": "60",
            "HOLDLINE_MODEL_TIMEOUT_SECONDS": "1.5",
            "HOLDLINE_MAX_WAIT_SECONDS": "2",
        }
    )

    assert (300, 60_000, 1_500, 2_000) == (
        settings.lease_ms,
        settings.retention_ms,
        settings.max_run_ms,
        settings.max_wait_ms,
    )


def test_the_policy_for_answers_of_a_dead_worker_is_configurable() -> None:
    assert "continue" == shared_config.shared_settings({}).on_worker_death
    for chosen in ("continue", "restart", "fail"):
        settings = shared_config.shared_settings({"HOLDLINE_ON_WORKER_DEATH": chosen})
        assert chosen == settings.on_worker_death


@pytest.mark.parametrize("url", ["http://redis:6379", "redis", "localhost:6379", "://"])
def test_an_unsupported_redis_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="REDIS_URL: the URL must begin with"):
        shared_config.redis_url({"REDIS_URL": url})


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:secret@cache:6379/0", "redis://…@cache:6379/0"),
        ("rediss://me:se@cret@cache:6379", "rediss://…@cache:6379"),
        ("redis://cache:6379/0?password=secret", "redis://cache:6379/0"),
        ("unix:///run/redis.sock?password=secret", "unix:///run/redis.sock"),
    ],
)
def test_secrets_in_urls_are_never_shown(url: str, shown: str) -> None:
    assert shown == shared_config.hide(url)


def test_the_ttl_of_an_unfinished_job_exceeds_its_longest_possible_run() -> None:
    settings = SharedSettings(max_wait_ms=10, max_attempts=3, max_run_ms=100, retention_ms=1000)

    assert settings.job_ttl_ms > 10 + 3 * 100 + 1000
