"""A fixture that shortens the pauses between reads."""

from __future__ import annotations

import pytest

from server.live import follower


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shortens a follower's pauses between reads."""
    monkeypatch.setattr(follower, "RETRY_SECONDS", (0.001, 0.002))
    monkeypatch.setattr(follower, "REWRITE_SECONDS", 0.1)
