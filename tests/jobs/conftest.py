"""Fixtures: the queue on a real Redis."""

from __future__ import annotations

import pytest

from jobs.queue import Queue
from jobs.redis.pipe import Pipe
from tests.jobs.factories import SETTINGS


@pytest.fixture
def queue(pipe: Pipe) -> Queue:
    return Queue(pipe, SETTINGS)
