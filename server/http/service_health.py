"""Serves the state of the whole service at `/healthz/service`, for people and alerts.

A load balancer must not use this route: a server without workers can still accept prompts, which
wait in the queue. Load balancers use `/readyz`.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from aiohttp import web

from jobs.errors import RedisTrouble
from jobs.overview import read_overview
from jobs.service_health import UNAVAILABLE, ServiceHealth, service_health
from jobs.worker_registry import WorkerRegistry

from .answers import json_answer

if TYPE_CHECKING:
    from jobs.redis.pipe import Pipe
    from server.config import Config

PATH: Final = "/healthz/service"
READ_SECONDS: Final = 1.0
# The route needs no credential, so all requests within this time share one answer. Otherwise
# anybody could load Redis with requests.
SHARED_SECONDS: Final = 1.0


class ServiceHealthRoute:
    """Reads the state of the service at most once per `SHARED_SECONDS`."""

    def __init__(self, config: Config, pipe: Pipe) -> None:
        self._config = config
        self._pipe = pipe
        self._registry = WorkerRegistry(pipe)
        self._lock = asyncio.Lock()
        self._found = UNAVAILABLE
        self._read_at = -SHARED_SECONDS

    def add_to(self, app: web.Application) -> None:
        """Adds the route to the application."""
        app.router.add_get(PATH, self.get)

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Returns the state of the service, with status 200 if every model has a live worker."""
        del request
        async with self._lock:
            if time.monotonic() - self._read_at >= SHARED_SECONDS:
                self._found = await self._read()
                self._read_at = time.monotonic()
        answer = json_answer(self._found.as_dict())
        answer.set_status(200 if self._found.ready else 503)
        return answer

    async def _read(self) -> ServiceHealth:
        models = self._config.catalog.models
        try:
            async with asyncio.timeout(READ_SECONDS):
                workers, overview = await asyncio.gather(
                    self._registry.all(),
                    read_overview(self._pipe, self._config.shared, models, tenants=0),
                )
        except (RedisTrouble, TimeoutError):
            return UNAVAILABLE
        return service_health(models, workers, overview)
