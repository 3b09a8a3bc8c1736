"""The server application: its parts, the order of start-up and shutdown, and all routes."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog
from aiohttp import web
from multidict import istr

from jobs.audit import AuditLog
from jobs.chats import Chats
from jobs.errors import RedisTrouble
from jobs.posts import Posts
from jobs.queue import Queue
from jobs.redis.check import check_until_available, until_available
from jobs.redis.startup import report_unavailable
from jobs.redis.url import redis_from_url
from jobs.server_registry import ServerState
from jobs.tenants import Tenants
from runtime.header_timeout import HeaderTimeout
from runtime.metrics import CONTENT_TYPE
from runtime.metrics_files import MetricsPage

from .connection_limit import ConnectionLimit
from .console.contents import ContentsReader
from .console.hub import Hub
from .console.reader import StateReader
from .http.answers import pace
from .http.auth_middleware import Authenticator
from .http.chat_completions import ChatCompletionRoutes
from .http.compact import CompactRoutes
from .http.console import ConsoleRoutes
from .http.conversation_events import ConversationEventRoutes
from .http.conversations import ConversationRoutes
from .http.documents import handlers as documents
from .http.errors import ErrorResponder
from .http.feedback import FeedbackRoutes
from .http.frontends import ag_ui
from .http.frontends.ag_ui import AgUiRoutes
from .http.frontends.ai_sdk import AiSdkRoutes
from .http.frontends.requests import FrontEndRequests
from .http.hosts import Hosts
from .http.input_tokens import InputTokenRoutes
from .http.open_streams import Streams
from .http.origins import Origins
from .http.push import PushRoutes
from .http.recording import recorder
from .http.responses import ALLOWANCE, ResponseRoutes, allowed
from .http.service_health import ServiceHealthRoute
from .http.static import pages
from .large_requests import LargeRequests
from .live.conversation_feed import ConversationFeeds
from .live.relay import Relay
from .metrics import Metrics
from .orphans import Orphans
from .registration import Registration
from .request_log import RequestLog
from .responses import Responses
from .service_metrics import ServiceMetrics
from .websocket.backpressure import SlowConsumers
from .websocket.limits import SocketLimiter
from .websocket.run_socket import RunSocket
from .websocket.services import Services
from .websocket.socket import Socket
from .websocket.unstored import ByteLimiter
from .websocket.upgrade import Upgrader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from .config import Config
    from .websocket.auth import SocketAuth

BACKLOG: Final = 4096
# The header names are `istr` objects. Otherwise each response would convert the names again, and
# each open socket would keep its own copies.
HEADERS: Final = {
    istr("X-Content-Type-Options"): "nosniff",
    istr("Referrer-Policy"): "no-referrer",
    istr("Content-Security-Policy"): (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
}
RETRY_AFTER_MS: Final = 500
READY_SECONDS: Final = 1.0

log = structlog.get_logger()


class Server:
    """The parts of the server that its routes share.

    `metrics_file` is the file through which this process shares its metrics with the other
    processes of its program, or None if there are none.
    """

    def __init__(self, config: Config, metrics_file: Path | None = None) -> None:
        self.config = config
        self.metrics = Metrics()
        self.metrics.registry.before_reading(self._update_metrics)
        self._page = MetricsPage(self.metrics.registry, metrics_file)
        self.redis = redis_from_url(config.redis_url, config.cipher)
        self.pipe = self.redis.pipe()
        # The Redis command WAIT delays all later commands on its connection, so prompts that wait
        # for replicas use a separate connection.
        self.submits = self.redis.pipe() if config.wait_replicas else self.pipe
        self.queue = Queue(self.submits, config.shared, wait_replicas=config.wait_replicas)
        self.relay = Relay(
            self.redis, self.pipe, self.queue, self.metrics, doubt_seconds=config.ping_seconds
        )
        self.relay.on_health(self.tell_health)
        self.responses = Responses(
            self.pipe,
            self.queue,
            Posts(self.submits, config.shared.job_ttl_ms),
            self.metrics,
            catalog=config.catalog,
            templates=config.templates,
            partitions=config.shared.partitions,
            max_context_bytes=config.max_context_bytes,
            max_body_bytes=config.max_body_bytes,
            unstored_ms=round(1000 * config.unstored_seconds),
        )
        self.authenticator = Authenticator(config.access, self.pipe)
        tenants = Tenants(self.pipe, config.shared.partitions)
        self._service_metrics = ServiceMetrics(
            config, self.pipe, self.authenticator.key_ends, self.authenticator.jwks_age
        )
        self.socket_limiter = SocketLimiter(tenants, config.shared, lambda: self.relay.healthy)
        limit = ConnectionLimit(config.max_sockets)
        self.upgrader = Upgrader(config, self.authenticator, self.socket_limiter, limit)
        self.sockets = self.upgrader.sockets
        self.streams = Streams(limit)
        self.large_requests = LargeRequests()
        self.requests = RequestLog(config.request_log)
        # Without a models file, all prompts wait in one queue, which belongs to no model.
        models = config.catalog.models or ("",)
        self.state_reader = StateReader(self.pipe, config.shared, [*models])
        self.services = Services(
            config=config,
            relay=self.relay,
            responses=self.responses,
            metrics=self.metrics,
            byte_limiter=ByteLimiter(),
            slow=SlowConsumers(),
            large_requests=self.large_requests,
            requests=self.requests,
            consoles=Hub(self.state_reader),
            conversations=ConversationFeeds(self.relay, self.queue.feeds),
            feeds=self.queue.feeds,
        )
        self._registration = Registration(self.pipe, self.metrics.refused, self._load)
        self.header_timeout = HeaderTimeout(config.request_seconds)
        self.stopping = False
        # The task that opens the connections to Redis. If it fails, the process must end.
        self.connecting: asyncio.Task[str]

    async def run(self, app: web.Application) -> AsyncIterator[None]:
        """Opens and closes the parts that live as long as the application (a `cleanup_ctx`)."""
        del app
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self.metrics.process)
            await stack.enter_async_context(self._page)
            # The parts of the second stack use the pipes of the first one until they are closed.
            pipes = await stack.enter_async_context(contextlib.AsyncExitStack())
            await stack.enter_async_context(self.relay)
            await stack.enter_async_context(self.services.consoles.loop())
            parts = await stack.enter_async_context(contextlib.AsyncExitStack())
            self.connecting = asyncio.create_task(self._connect(pipes, parts), name="start-up")
            try:
                yield
            finally:
                self.connecting.cancel()
                await asyncio.wait([self.connecting])

    async def _connect(
        self, pipes: contextlib.AsyncExitStack, parts: contextlib.AsyncExitStack
    ) -> str:
        """Waits until Redis is available, checks it, and returns a description of it.

        Until then the pipes are not open, so requests are refused as during an outage, and no
        request reaches Redis before Redis has passed the check.

        Raises: RedisRefused or RedisUnsuitable if Holdline cannot use this Redis.
        """
        async with self.redis.pipe() as pipe:
            found = await check_until_available(pipe, report_unavailable)
            await until_available(lambda: self.requests.load(pipe), report_unavailable)
        log.info("connected to Redis", redis=found)
        for pipe in {self.pipe, self.submits}:
            await pipes.enter_async_context(pipe)
        orphans = Orphans(self.pipe, self.queue, self.relay, self.responses, self.config.shared)
        await parts.enter_async_context(orphans.loop())
        await parts.enter_async_context(self._registration)
        return found

    async def drain(self, app: web.Application | None = None) -> None:
        """Stops accepting requests, and asks all clients to connect to another server.

        Nothing is lost, because every stream can be resumed. A request that waits for its answer
        without a stream cannot be resumed, so it may finish within the grace period.
        """
        del app
        if self.upgrader.draining:
            return
        self.stopping = self.upgrader.draining = True
        self._registration.write_now()
        log.info("shutting down: asking clients to reconnect", sockets=len(self.sockets))
        await asyncio.gather(
            self.streams.stop(self.config.grace_seconds),
            *(socket.restart(RETRY_AFTER_MS) for socket in list(self.sockets)),
        )

    def tell_health(self, healthy: bool) -> None:
        """Tells all clients on sockets that Redis is unavailable, or available again.

        The sockets stay open.
        """
        for socket in list(self.sockets):
            socket.tell_health(healthy=healthy)

    def new_socket(self, auth: SocketAuth, offers: list[str]) -> Socket:
        """Returns a socket at `/v1/responses`."""
        return Socket(auth, self.services, offers)

    async def livez(self, request: web.Request) -> web.StreamResponse:
        """Reports that the process is alive."""
        del request
        return web.json_response({"status": "ok"})

    async def readyz(self, request: web.Request) -> web.StreamResponse:
        """Reports whether the server is ready for requests.

        The server is ready if Redis answers, the subscriber is healthy, and the server is not
        stopping.
        """
        del request
        try:
            async with asyncio.timeout(READY_SECONDS):
                redis = await self.pipe.call("PING") is not None
        except (RedisTrouble, TimeoutError):
            redis = False
        found = {
            "redis": redis,
            "notifications": self.relay.subscriber.healthy,
            "draining": self.stopping,
        }
        ready = redis and self.relay.subscriber.healthy and not self.stopping
        return web.json_response(
            {"status": "ready" if ready else "not ready", **found}, status=200 if ready else 503
        )

    async def metrics_page(self, request: web.Request) -> web.StreamResponse:
        """Returns the metrics in the Prometheus text format."""
        del request
        body = self._page.render() + await self._service_metrics.page()
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})

    def _update_metrics(self) -> None:
        metrics = self.metrics
        metrics.process.ready.set(self.relay.healthy and not self.stopping)
        metrics.process.draining.set(self.stopping)
        metrics.redis_connected.set(self.pipe.connected)
        metrics.streams.set(self.streams.count)
        metrics.followers_behind.set(self.relay.followers_behind)

    def _load(self) -> tuple[ServerState, int, int]:
        state = ServerState.DRAINING if self.stopping else ServerState.READY
        return state, len(self.sockets), self.streams.count


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Adds the headers that every response has, and the remaining allowance after a prompt."""
    pace(request, response)
    # The `Server` header reveals versions, and strict clients reject a second one that a proxy
    # adds.
    response.headers.pop("Server", None)
    if request.app[SERVER].stopping and response.status != 101:
        response.headers["Connection"] = "close"  # the client's next request goes to another server
        response.force_close()
    for name, value in (HEADERS | allowed(request.get(ALLOWANCE))).items():
        response.headers.setdefault(name, value)


SERVER: Final = web.AppKey("server", Server)


def create_app(config: Config, metrics_file: Path | None = None) -> web.Application:
    """Creates the application, which opens its connections when it starts.

    `Server` describes `metrics_file`.
    """
    server = Server(config, metrics_file)
    app = web.Application(
        middlewares=[
            recorder(server.requests),
            server.header_timeout.middleware(),
            ErrorResponder(server.metrics, server.requests, config.max_body_bytes).middleware,
        ],
        client_max_size=config.max_body_bytes,
    )
    app[SERVER] = server
    app.cleanup_ctx.append(server.run)
    app.on_shutdown.append(server.drain)
    app.on_response_prepare.append(add_headers)
    open_socket = partial(server.upgrader.serve, server.new_socket)
    app.router.add_get("/v1/responses", open_socket, allow_head=False)
    routes = ResponseRoutes(
        config,
        server.relay,
        server.responses,
        server.streams,
        server.large_requests,
        server.metrics,
    )
    routes.add_to(app)
    ChatCompletionRoutes(config, server.relay, server.responses, routes).add_to(app)
    CompactRoutes(config, server.relay, server.responses, routes).add_to(app)
    InputTokenRoutes(config, server.responses, routes).add_to(app)
    conversations = server.responses.conversations
    ConversationRoutes(config, conversations, routes).add_to(app)
    feeds, auth = server.services.conversations, server.upgrader.auth_of
    ConversationEventRoutes(config, conversations, feeds, server.streams, routes, auth).add_to(app)
    front_ends = FrontEndRequests(config, server.relay, server.responses, routes)
    chats = Chats(server.pipe, config.shared.partitions, config.shared.job_ttl_ms)
    AiSdkRoutes(front_ends, server.responses, chats).add_to(app)
    AgUiRoutes(front_ends, server.responses).add_to(app)
    open_run = partial(server.upgrader.serve, partial(RunSocket, server.services, front_ends))
    app.router.add_get(ag_ui.PATH, open_run, allow_head=False)
    FeedbackRoutes(config, server.pipe, server.responses, server.queue.feeds).add_to(app)
    PushRoutes(config, server.pipe).add_to(app)
    audit = AuditLog(server.pipe, config.audit_retention_ms)
    contents = ContentsReader(server.pipe, server.responses, audit)
    ConsoleRoutes(server.state_reader, contents).add_to(app)
    for path in ("/livez", "/health"):
        app.router.add_get(path, server.livez)
    app.router.add_get("/readyz", server.readyz)
    ServiceHealthRoute(config, server.pipe).add_to(app)
    app.router.add_get("/metrics", server.metrics_page)
    if config.hosts is not None:
        Hosts(config.hosts).add_to(app)
    Origins(config.origins).add_to(app)
    server.authenticator.add_to(app)
    documents.add_to(app)
    pages().add_to(app)
    return app
