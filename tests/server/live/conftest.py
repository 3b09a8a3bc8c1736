"""Followers whose retries do not take real time."""

from __future__ import annotations

import pytest

from server.live import follower


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shortens the pauses between the reads of a follower."""
    monkeypatch.setattr(follower, "RETRY_SECONDS", (0.001, 0.002))
    monkeypatch.setattr(follower, "REWRITE_SECONDS", 0.1)
