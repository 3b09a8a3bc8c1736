"""The spans of a worker, with the attributes of OpenTelemetry's conventions for generative AI.

The conventions also define attributes for prompts and answers, which are never recorded.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from jobs.config.models import RESPONSES
from runtime import tracing
from runtime.tracing import NO_SPAN, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from jobs.record import Job
    from jobs.replies import Grant
    from runtime.tracing import Attributes, Span
    from worker.config import Endpoint

RESPONSE_ID: Final = "holdline.response_id"
WORKER_LOST: Final = "worker_lost"
# The parameters that limit the output, in the names of the endpoints.
_LIMITS: Final = ("max_completion_tokens", "max_tokens", "max_output_tokens")
OPENAI_HOST: Final = "api.openai.com"
HTTPS_PORT: Final = 443


@contextlib.contextmanager
def attempt_span(grant: Grant) -> Iterator[None]:
    """Records the wait in the queue that has just ended, and then the attempt in a `with` block.

    If the worker dies, the attempt is recorded by the worker that claims the job next.
    """
    with tracing.within(grant.trace, grant.response_id):
        if not tracing.is_on():
            yield
            return
        about: Attributes = {
            RESPONSE_ID: grant.response_id,
            "holdline.attempt": grant.attempt,
            "holdline.reason": grant.reason or None,
        }
        _record_lost(grant, grant.attempt - (not grant.checkpoint), grant.queued_ms)
        tracing.start(
            "queue",
            attributes={**about, "holdline.queue": grant.queue_name},
            ago_seconds=grant.queued_ms / 1000,
        ).end()
        with tracing.span("attempt", kind=Kind.CONSUMER, attributes=about):
            yield


def _record_lost(grant: Grant, attempt: int, ago_ms: int) -> None:
    """Records an attempt that lost its worker some time ago, from its claim to that time."""
    if grant.lost_ms:
        span = tracing.start(
            "attempt",
            kind=Kind.CONSUMER,
            attributes={
                RESPONSE_ID: grant.response_id,
                "holdline.attempt": attempt,
                "holdline.cause": WORKER_LOST,
            },
            ago_seconds=(ago_ms + grant.lost_ms) / 1000,
        )
        span.fail(WORKER_LOST)
        span.end(ago_ms / 1000)


def closing_span(grant: Grant, cause: str) -> AbstractContextManager[Span]:
    """Returns a context that records the end of a response without a model call."""
    _record_lost(grant, grant.attempt, 0)
    about = {RESPONSE_ID: grant.response_id, "holdline.cause": cause}
    return tracing.span("close", kind=Kind.CONSUMER, attributes=about)


def call_span(
    job: Job, endpoint: Endpoint, arguments: dict[str, Any]
) -> AbstractContextManager[Span]:
    """Returns a context that records a call of a model."""
    if not tracing.is_on():
        return contextlib.nullcontext(NO_SPAN)
    address = urlsplit(endpoint.base_url or f"https://{OPENAI_HOST}")
    model = str(arguments.get("model", ""))
    return tracing.span(
        f"chat {model}",
        kind=Kind.CLIENT,
        attributes={
            "gen_ai.operation.name": "chat",
            # The conventions ask for the instrumented API, which may be that of another provider.
            "gen_ai.provider.name": "openai",
            "openai.api.type": "responses" if endpoint.api == RESPONSES else "chat_completions",
            "gen_ai.request.model": model,
            "gen_ai.request.stream": bool(arguments.get("stream")),
            "gen_ai.request.max_tokens": next(filter(None, map(arguments.get, _LIMITS)), None),
            "gen_ai.conversation.id": job.conversation or None,
            "server.address": address.hostname,
            "server.port": address.port or (HTTPS_PORT if address.scheme == "https" else 80),
            RESPONSE_ID: job.id,
        },
    )


def note_answer_id(id_: object) -> None:
    """Adds the endpoint's id of an answer to the span of the call."""
    if isinstance(id_, str) and id_:
        tracing.current().set({"gen_ai.response.id": id_})


def note_result(
    cause: str, usage: dict[str, Any] | None, first_token_ms: int | None, *, finished: bool
) -> None:
    """Adds the result of a call to its span.

    `cause` is a key of `outcome.CAUSES`. `usage` has the format of the Responses API. `finished` is
    True if the model gave a stop reason.
    """
    used = usage or {}
    tracing.current().set(
        {
            "gen_ai.response.finish_reasons": (cause,) if finished else None,
            "gen_ai.response.time_to_first_chunk": first_token_ms and first_token_ms / 1000,
            "gen_ai.usage.input_tokens": used.get("input_tokens"),
            "gen_ai.usage.output_tokens": used.get("output_tokens"),
            "gen_ai.usage.cache_read.input_tokens": used.get("input_tokens_details", {}).get(
                "cached_tokens"
            ),
            "gen_ai.usage.reasoning.output_tokens": used.get("output_tokens_details", {}).get(
                "reasoning_tokens"
            ),
            "holdline.cause": cause,
        }
    )
