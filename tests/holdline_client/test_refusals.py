"""Tests that each final close code and status has a sentence that says what to do."""

from __future__ import annotations

import pytest

from holdline_client.protocol import close_advice
from holdline_client.refusals import closed_with, refused_with

FINAL = [code for code in range(1000, 5000) if not close_advice(code).come_back]
STANDARD = [code for code in FINAL if code < 4000]


@pytest.mark.parametrize("close_code", STANDARD)
def test_each_final_code_of_the_standard_has_a_code_and_a_sentence_of_its_own(
    close_code: int,
) -> None:
    closed = closed_with(close_code, has_credential=True)
    assert closed.code != "connection_closed"
    assert close_code == closed.close_code
    others = {closed_with(one, has_credential=True).code for one in STANDARD if one != close_code}
    assert closed.code not in others


@pytest.mark.parametrize("close_code", [4400, 4499])
def test_an_unknown_final_code_is_named(close_code: int) -> None:
    closed = closed_with(close_code, has_credential=True)
    assert ("connection_closed", close_code) == (closed.code, closed.close_code)
    assert str(close_code) in str(closed)


@pytest.mark.parametrize(
    ("has_credential", "code"), [(True, "invalid_token"), (False, "authentication_required")]
)
def test_a_refused_credential_has_the_code_of_the_server(has_credential: bool, code: str) -> None:
    by_code = closed_with(4401, has_credential=has_credential)
    by_status = refused_with(401, has_credential=has_credential)
    assert (code, 401, 4401) == (by_code.code, by_code.status, by_code.close_code)
    assert (code, 401, by_code.message) == (by_status.code, by_status.status, by_status.message)


@pytest.mark.parametrize("status", [400, 403, 404])
def test_a_refused_upgrade_names_its_status(status: int) -> None:
    refused = refused_with(status, has_credential=False)
    assert ("connection_refused", status) == (refused.code, refused.status)
    assert str(status) in refused.message
