"""Authenticates every request to the API by its API key or token.

If neither keys nor tokens are configured, every caller is the principal `EVERYBODY`, and the
configuration allows loopback addresses only.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from jobs.errors import RedisTrouble
from runtime.loop import Loop
from server.access import api_keys, jwt, principal
from server.access.api_key_store import FileKeys, RedisKeys
from server.access.client_address import client_address
from server.access.jwks import Jwks
from server.access.principal import EVERYBODY, Principal
from server.access.url_secrets import check_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from jobs.redis.pipe import Pipe
    from server.config import AuthConfig

API: Final = "/v1/"
RENEW_SECONDS: Final = 3600.0
PRINCIPAL: Final = web.RequestKey("who", Principal)


class Authenticator:
    """Authenticates requests. Raises: Problem, RedisTrouble."""

    def __init__(self, settings: AuthConfig, pipe: Pipe) -> None:
        self._settings = settings
        self._keys: RedisKeys | FileKeys | None = None
        if settings.keys_file is not None:
            self._keys = FileKeys(settings.keys_file)
        elif settings.keys_in_redis:
            self._keys = RedisKeys(pipe)
        self._signers = settings.jwt_keys
        self._jwks = Jwks(settings.jwks_url) if settings.jwks_url else None

    @property
    def open(self) -> bool:
        """True if the server does not authenticate requests."""
        return not self._settings.closed

    def address_of(self, request: web.Request) -> str:
        """Returns the address of a request's client, as reported by trusted proxies."""
        forwarded = request.headers.getall("X-Forwarded-For", ())
        return client_address(request.remote, forwarded, self._settings.proxies)

    async def key_ends(self) -> list[float]:
        """Returns the times in Unix seconds at which API keys expire. Raises: RedisTrouble."""
        records = [] if self._keys is None else await self._keys.all()
        return [record.expires_at for record in records if record.expires_at is not None]

    def jwks_age(self) -> float | None:
        """Returns the seconds since the keys of `HOLDLINE_JWKS_URL` were fetched, or None."""
        return None if self._jwks is None else self._jwks.age

    async def authenticated(self, credential: str | None, address: str) -> Principal:
        """Returns the principal of a credential, with the client's address.

        The error for an invalid credential does not say why the credential is invalid.
        """
        return replace(await self._by_credential(credential), address=address)

    async def _by_credential(self, credential: str | None) -> Principal:
        if self.open:
            return EVERYBODY
        if credential is None:
            raise principal.missing()
        if len(credential) > principal.MAX_CREDENTIAL:
            raise principal.refused()
        if credential.startswith(api_keys.PREFIX):
            return await self._by_key(credential)
        return await self._by_jwt(credential)

    async def _by_key(self, written: str) -> Principal:
        id_ = api_keys.id_of(written)
        if id_ is None or self._keys is None:
            raise principal.refused()
        record = await self._keys.get(id_)
        if not api_keys.matches(record, written, time.time()) or record is None:
            raise principal.refused()
        return record.principal()

    async def _by_jwt(self, token: str) -> Principal:
        kid = jwt.kid_of(token)
        key = None if self._signers is None else self._signers.get().get(kid)
        if key is None and self._jwks is not None:
            key = await self._jwks.get(kid)
        if key is None:
            raise principal.refused()
        return jwt.verified(token, key, self._settings.rules, time.time())

    async def run(self, app: web.Application) -> AsyncIterator[None]:
        """Renews the API keys in Redis, and closes the JWKS client at the end (a `cleanup_ctx`)."""
        del app
        async with contextlib.AsyncExitStack() as stack:
            if self._jwks is not None:
                stack.push_async_callback(self._jwks.close)
            if isinstance(self._keys, RedisKeys):
                pause = (RENEW_SECONDS, RENEW_SECONDS)
                renewals = Loop("API key renewal", self._keys.renew, pause, ignored=(RedisTrouble,))
                await stack.enter_async_context(renewals)
            yield

    def add_to(self, app: web.Application) -> None:
        """Adds the middleware, which refuses API requests without a valid credential.

        A WebSocket may authenticate after its upgrade.
        """
        app.middlewares.append(self._guard())
        app.cleanup_ctx.append(self.run)

    def _guard(self) -> Any:
        @web.middleware
        async def guard(request: web.Request, handler: Any) -> web.StreamResponse:
            if request.path.startswith(API):
                await self._admit(request)
            answer: web.StreamResponse = await handler(request)
            return answer

        return guard

    async def _admit(self, request: web.Request) -> None:
        check_url(request.query)
        if isinstance(request.match_info.http_exception, web.HTTPNotFound):
            return  # the list of routes is public, so an unknown path gives every caller a 404
        resource = request.match_info.route.resource
        place = "" if resource is None else resource.canonical
        credential = None if self.open else principal.from_header(request.headers)
        request[CREDENTIAL] = credential
        if request.method == "GET" and place in principal.SOCKETS:
            # An `Authorization` header is checked before the upgrade. A browser can neither send
            # this header nor read why an upgrade was refused, so `server.websocket.auth` checks a
            # browser's token after the upgrade.
            if self.open or credential is not None:
                request[PRINCIPAL] = await self.authenticated(credential, self.address_of(request))
            return
        who = await self.authenticated(credential, self.address_of(request))
        request[PRINCIPAL] = who  # the request log names the caller of a refused request too
        if request.match_info.http_exception is None:
            who.check(principal.OF_ROUTES.get((request.method, place), principal.ADMIN))


CREDENTIAL: Final = web.RequestKey("shown", object)


def principal_of(request: web.Request) -> Principal:
    """Returns the principal that sent an API request."""
    return request[PRINCIPAL]
