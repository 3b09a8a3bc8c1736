"""Tests a webhook's content, its retries and its forbidden targets."""

from __future__ import annotations

import base64
import time

import pytest
from openai import InvalidWebhookSignatureError, OpenAI

from jobs.config.settings import ConfigError
from worker.config import load
from worker.webhooks.message import body, event_id, headers, read_secrets
from worker.webhooks.verdict import SCHEDULE, Again, Dead, Sent, judge

ID = "resp_000" + "ab" * 16
OLD = "whsec_" + base64.b64encode(b"o" * 24).decode()
NEW = "whsec_" + base64.b64encode(b"n" * 32).decode()


@pytest.mark.parametrize("status", ["completed", "failed", "incomplete", "cancelled"])
def test_the_sdk_verifies_a_webhook_with_the_old_and_the_new_secret(status: str) -> None:
    payload = body(ID, status, 1_700_000_000_123)
    now = round(1000 * time.time())
    signed = headers(event_id(ID), now, payload, read_secrets(f"{NEW} {OLD}"))
    webhooks = OpenAI(api_key="any").webhooks
    for secret in (OLD, NEW):
        event = webhooks.unwrap(payload, signed, secret=secret)
        assert (f"response.{status}", 1_700_000_000) == (event.type, event.created_at)
        assert {"id": ID} == event.data.model_dump()
        assert signed["webhook-id"] == event.id
    other = "whsec_" + base64.b64encode(b"x" * 24).decode()
    with pytest.raises(InvalidWebhookSignatureError):
        webhooks.unwrap(payload, signed, secret=other)
    with pytest.raises(InvalidWebhookSignatureError):
        webhooks.unwrap(payload + b" ", signed, secret=NEW)


def test_accepted_deliveries_end_and_others_are_retried_with_growing_delays() -> None:
    assert [Sent()] * 3 == [judge(status, tries=1, jitter=0) for status in (200, 204, 299)]
    for status in (None, 100, 301, 400, 404, 429, 500):
        assert Again(5_000) == judge(status, tries=1, jitter=0)
    waits = [judge(500, tries=tries, jitter=0) for tries in range(1, 10)]
    assert [Again(round(1000 * wait)) for wait in SCHEDULE] == waits
    assert Dead() == judge(500, tries=10, jitter=0)
    assert Dead() == judge(410, tries=1, jitter=0)
    assert Sent() == judge(200, tries=10, jitter=0)
    assert Again(6_000) == judge(500, tries=1, jitter=1)
    assert Again(60_000) == judge(429, tries=1, jitter=0, retry_after=60)
    assert Again(86_400_000) == judge(429, tries=1, jitter=0, retry_after=1e9)


GIVEN = {"OPENAI_API_KEY": "any"}
URL = {"HOLDLINE_WEBHOOK_URL": "https://example.com/hook"}


def test_secrets_and_url_are_read_and_never_shown() -> None:
    config = load(GIVEN | URL | {"HOLDLINE_WEBHOOK_SECRET": f"{OLD},{NEW}"})
    assert config.receiver is not None
    assert (b"o" * 24, b"n" * 32) == config.receiver.keys
    assert "hook" not in repr(config.receiver)
    assert "ooo" not in repr(config)
    assert config.shared.webhooks
    assert load(GIVEN).receiver is None


@pytest.mark.parametrize(
    ("environ", "word"),
    [
        (URL, "requires HOLDLINE_WEBHOOK_SECRET"),
        (URL | {"HOLDLINE_WEBHOOK_SECRET": "secret"}, "whsec_"),
        (URL | {"HOLDLINE_WEBHOOK_SECRET": "whsec_%%"}, "base64"),
        (URL | {"HOLDLINE_WEBHOOK_SECRET": "whsec_c2hvcnQ="}, "24 to 64 bytes"),
        ({"HOLDLINE_WEBHOOK_URL": "http://example.com"}, "https://"),
        ({"HOLDLINE_WEBHOOK_URL": "https://u:p@example.com"}, "password"),
        ({"HOLDLINE_WEBHOOK_ALLOW_PRIVATE": "yes"}, "0 or 1"),
    ],
)
def test_an_invalid_setting_is_reported_without_its_value(
    environ: dict[str, str], word: str
) -> None:
    with pytest.raises(ConfigError, match=word) as error:
        load(GIVEN | environ)
    assert "c2hvcnQ" not in str(error.value)
