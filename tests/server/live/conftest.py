"""Fixtures that shorten the pauses between reads and lengthen the wait for notifications."""

from __future__ import annotations

import pytest

from server.live import follower


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shortens a follower's pauses between reads."""
    monkeypatch.setattr(follower, "RETRY_SECONDS", (0.001, 0.002))
    monkeypatch.setattr(follower, "REWRITE_SECONDS", 0.1)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lengthens the wait for a notification, because the machine may be busy."""
    monkeypatch.setattr("server.live.submission.NOTIFICATION_TURNS", 1000)
