"""Close codes say in their band whether to come back."""

from __future__ import annotations

import pytest

from server.api.close_codes import CloseCode

COME_BACK = {CloseCode.RESTARTING, CloseCode.TRY_AGAIN, CloseCode.SILENT, CloseCode.TOO_MANY}


@pytest.mark.parametrize("code", CloseCode)
def test_a_code_says_whether_coming_back_helps(code: CloseCode) -> None:
    assert (code in COME_BACK) == code.come_back


@pytest.mark.parametrize("code", CloseCode)
def test_a_code_of_ours_is_in_the_band_that_applications_may_use(code: CloseCode) -> None:
    assert code in (1012, 1013) or 4400 <= code < 4500


@pytest.mark.parametrize("code", [code for code in CloseCode if code >= 4000])
def test_a_code_of_ours_reads_like_the_status_of_http(code: CloseCode) -> None:
    assert code - 4000 in {401, 408, 429}
