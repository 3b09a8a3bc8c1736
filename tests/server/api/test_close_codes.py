"""Tests that the range of a WebSocket close code tells the client whether to reconnect."""

from __future__ import annotations

import pytest

from server.api.close_codes import CloseCode

COME_BACK = {CloseCode.RESTARTING, CloseCode.TRY_AGAIN, CloseCode.SILENT, CloseCode.TOO_MANY}


@pytest.mark.parametrize("code", CloseCode)
def test_each_close_code_says_whether_to_reconnect(code: CloseCode) -> None:
    assert (code in COME_BACK) == code.come_back


@pytest.mark.parametrize("code", CloseCode)
def test_own_close_codes_are_in_the_range_for_applications(code: CloseCode) -> None:
    assert code in (1012, 1013) or 4400 <= code < 4500


@pytest.mark.parametrize("code", [code for code in CloseCode if code >= 4000])
def test_own_close_codes_correspond_to_http_statuses(code: CloseCode) -> None:
    assert code - 4000 in {401, 408, 429}
