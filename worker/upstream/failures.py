"""Classifies the errors of endpoints into rows of `outcome.CAUSES`.

An endpoint can refuse in four places: by its status, by the body of that, by an error in the place
of a chunk, and by an event of the Responses API. The same words mean the same in all of them, so
all of them are classified here. In this order:

    402, quota, payment, credentials      upstream_unauthorized: the operator's trouble
    a limit of output that is too large   upstream_rejected: a shorter input would not help
    an input that is too long             upstream_input_too_long
    the model is not known                upstream_model_not_found
    rate limit, overload                  upstream_busy
    anything else                         by the status, or upstream_error within a stream

Codes are looked at first. Words are needed as well: half of the servers have no code for an input
that is too long. The words are only compared; they never go into a log or to a client.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_CODE_FIELDS: Final = frozenset(
    {"code", "type", "status", "error_type", "error_code", "reason", "status_code", "http_code"}
)
_DELAY_FIELDS: Final = frozenset({"retrydelay", "retry_after", "retry_after_seconds"})
# An argument that not every server takes, and that a request can do without.
_OPTIONAL: Final = "stream_options"
_MAX_DEPTH: Final = 8
_MAX_WORDS: Final = 16_384

_ACCOUNT_CODES: Final = frozenset(
    {
        "access_terminated",
        "account_deactivated",
        "api_key_invalid",
        "arrearage",
        "authentication_error",
        "authenticationerror",
        "billing_error",
        "billing_hard_limit_reached",
        "billing_not_active",
        "blocked_api_access",
        "exceeded_current_quota_error",
        "forbidden",
        "incorrect_api_key",
        "insufficient_balance",
        "insufficient_credits",
        "insufficient_quota",
        "invalid_api_key",
        "invalid_authentication",
        "invalid_authentication_error",
        "payment_required",
        "permission_denied",
        "permission_error",
        "permissiondeniederror",
        "unauthenticated",
        "unauthorized",
    }
)
_ACCOUNT_WORDS: Final = re.compile(
    r"insufficient (?:account )?(?:balance|credits?|funds|quota)|credit balance is too low"
    r"|requires more credits|can only afford|out of credits|no (?:more )?credits"
    r"|used all (?:of its |your )?available credits|spending limit|billing hard limit"
    r"|(?:billing|account) is not active|payment required|余额不足|欠费"
    r"|(?:incorrect|invalid) api key|api key (?:is )?(?:not valid|invalid|expired)",
    re.IGNORECASE,
)
_LONG_CODES: Final = frozenset(
    {
        "context_length_exceeded",
        "context_window_exceeded",
        "exceed_context_size_error",
        "input_too_long",
        "max_context_length_exceeded",
        "model_max_prompt_tokens_exceeded",
        "prompt_too_long",
        "request_too_large",
        "string_above_max_length",
        "tokens_limit_reached",
    }
)
_INPUT: Final = r"(?:prompt|inputs?|messages|request|input tokens?|input token count|conversation)"
_CONTEXT: Final = r"context(?: length| size| window| limit)"
_LONG_WORDS: Final = re.compile(
    # Anthropic, Bedrock, Fireworks, Zhipu
    rf"\b{_INPUT}\W+(?:\w+\W+){{0,3}}(?:is|are) too (?:long|large|big)"
    rf"|\b{_INPUT} exceeds? (?:the )?max"
    # Gemini, vLLM, SGLang, llama.cpp, OpenAI's Responses, Ollama
    rf"|\b{_INPUT}\b.{{0,80}}\b(?:exceed(?:s|ed)?|longer than|larger than|too large for)\b"
    rf".{{0,60}}\b(?:{_CONTEXT}|tokens? allowed|token limit|model length|configured limit|limit of)"
    rf"|input token count.{{0,60}}(?:only supports|exceeds)"
    # OpenAI, vLLM, DeepSeek, xAI, Mistral, Moonshot, MiniMax
    r"|maximum (?:context|prompt|model|input) length"
    rf"|exceeds? (?:the |this |your |model'?s? |model |available |maximum ){{0,4}}"
    rf"(?:{_CONTEXT}|token limit)"
    rf"|{_CONTEXT} exceed"
    # TGI, Together, DashScope
    r"|inputs?\W{0,2} tokens? \+ \W?max_new_tokens|`inputs` must have less than"
    r"|range of input length should be"
    # Groq, Cerebras, OpenAI's tokens a minute, GitHub
    r"|reduce (?:the length of (?:the|your) (?:messages|prompt|input)"
    r"|your (?:message|prompt|input))"
    r"|request (?:body )?too large|too many tokens"
    r"|current length is \d+ while limit is \d+",
    re.IGNORECASE | re.DOTALL,
)
_LIMIT: Final = r"max[_ ]?(?:completion|output|new)?[_ ]?tokens"
_LIMIT_PARAMETERS: Final = frozenset(
    {"max_tokens", "max_completion_tokens", "max_output_tokens", "max_new_tokens"}
)
_LARGE_OUTPUT: Final = re.compile(
    rf"(?<!\+ )(?<!\+ [`'\"]){_LIMIT}\W{{0,3}}(?:\bor\W+{_LIMIT}\W{{0,3}})?\s*"
    r"(?:is too|value of|value,|must be|should be|cannot|can't|exceeds?\b|\(?\d+\)? exceeds"
    r"|:? ?\d+ ?>|is greater|is larger|\(?\d+\)? is (?:too|greater|larger))"
    rf"|range of {_LIMIT}|maximum allowed number of output tokens|supports at most \d+ completion",
    re.IGNORECASE,
)
# How a sum of both is broken down: the limit, the part of the input, the part of the output.
_SUMS: Final = (
    re.compile(
        r"length is (?P<limit>\d+) tokens.*?(?P<input>\d+) (?:tokens )?(?:in|from) (?:the|your) "
        r"(?:input )?(?:messages|prompt)\W+(?:and )?(?:\d+ in the functions\W+(?:and )?)?"
        r"(?P<output>\d+) (?:tokens )?(?:in|for) the completion",
        re.DOTALL,
    ),
    re.compile(
        r"max_new_tokens\W+must be <= (?P<limit>\d+)\W+Given: (?P<input>\d+) \W?inputs\W? tokens "
        r"and (?P<output>\d+)"
    ),
    re.compile(r"context limit: (?P<input>\d+) \+ (?P<output>\d+) > (?P<limit>\d+)"),
    re.compile(
        r"passed (?P<input>\d+) input tokens and requested (?P<output>\d+) output tokens"
        r"\W+However\W+the model's context length is only (?P<limit>\d+)"
    ),
)
_UNKNOWN_MODEL_CODES: Final = frozenset(
    {"deploymentnotfound", "model_not_found", "not_found", "not_found_error", "notfounderror"}
)
_UNKNOWN_MODEL_WORDS: Final = re.compile(
    r"not a valid model|model\W.{0,80}\b(?:does not exist|not found)\b", re.IGNORECASE
)
_BUSY_CODES: Final = frozenset(
    {
        "capacity_exceeded",
        "engine_overloaded",
        "engine_overloaded_error",
        "model_overloaded",
        "overloaded",
        "overloaded_error",
        "rate_limit",
        "rate_limit_error",
        "rate_limit_exceeded",
        "rate_limited",
        "ratelimiterror",
        "resource_exhausted",
        "server_busy",
        "server_overloaded",
        "service_unavailable",
        "service_unavailable_error",
        "slow_down",
        "throttling",
        "throttlingexception",
        "too_many_requests",
        "unavailable",
    }
)
_REJECTED_CODE: Final = re.compile(
    r"invalid_|unsupported_|image_|missing_|bad_?request|validation|unprocessable|failed_precondition"
    r"|content_(?:filter|policy)"
)


@dataclass(frozen=True, slots=True)
class Failure:
    """How an endpoint refused. `code` is a row of `outcome.CAUSES`.

    `retry_after` are the seconds that the error itself asks to wait. `parameter` is the argument of
    the request that the endpoint does not take, if it can be left out.
    """

    code: str
    retry_after: float | None = None
    parameter: str = ""


@dataclass(slots=True)
class _Details:
    """The codes, numbers and words of an error, whatever its shape."""

    codes: set[str] = field(default_factory=set)
    numbers: list[int] = field(default_factory=list)
    parameters: set[str] = field(default_factory=set)
    words: list[str] = field(default_factory=list)
    retry_after: float | None = None

    def add(self, value: Any, name: str = "", depth: int = 0) -> None:
        """Takes a value of the error and all that is in it."""
        match value:
            case _ if depth > _MAX_DEPTH:
                pass
            case dict():
                if {"loc", "msg"} <= value.keys():  # FastAPI's refusal of a request
                    self.codes.add("validation")
                for inner, one in value.items():
                    self.add(one, str(inner).casefold(), depth + 1)
            case list():
                for one in value:
                    self.add(one, name, depth + 1)
            case str():
                self._text(value, name, depth)
            case int() | float() if name in _CODE_FIELDS and float(value).is_integer():
                self.numbers.append(int(value))
            case int() | float() if name in _DELAY_FIELDS:
                self.retry_after = float(value)
            case _:
                pass

    def _text(self, value: str, name: str, depth: int) -> None:
        if name in _DELAY_FIELDS and re.fullmatch(r"\d{1,6}(?:\.\d{1,9})?s?", value):
            self.retry_after = float(value.removesuffix("s"))
        elif name in _CODE_FIELDS and value.isdecimal() and len(value) == 3:
            self.numbers.append(int(value))
        elif name in _CODE_FIELDS:
            self.codes.add(value.casefold())
        elif name in ("param", "loc"):
            self.parameters.add(value.rpartition(".")[2].casefold())
        self.words.append(value[:_MAX_WORDS])
        # A proxy passes on the error of its own upstream as a text.
        if value.lstrip()[:1] in ("{", "["):
            try:
                inner = json.loads(value)
            except (ValueError, RecursionError):
                return
            self.add(inner, depth=depth + 1)


def classify(error: Any, status: int | None = None) -> Failure:
    """Classifies an error by its parsed JSON, or its text, and by its HTTP status if it has one."""
    details = _Details()
    details.add(error)
    text = "\n".join(details.words)[:_MAX_WORDS]
    code = _code(details, text, status)
    named = code == "upstream_rejected" and _OPTIONAL in text
    return Failure(code, details.retry_after, _OPTIONAL if named else "")


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Returns the seconds that the headers of a response ask to wait, if they do.

    A date is compared with the response's own `Date`, so that the clocks need not agree; `now` is
    the time of this side's clock, for a response without one.
    """
    value = headers.get("retry-after", "")
    if (milliseconds := _number(headers.get("retry-after-ms", ""))) is not None:
        return milliseconds / 1000
    if (seconds := _number(value)) is not None or not value:
        return seconds
    at = _timestamp(value)
    sent = _timestamp(headers.get("date", "")) or now
    return None if at is None else max(at - sent, 0.0)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return max(number, 0.0) if math.isfinite(number) else None


def _timestamp(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None


def _code(details: _Details, text: str, status: int | None) -> str:
    in_stream = status is None
    if status is None:
        status = next((n for n in details.numbers if 400 <= n < 600), None)
    codes = details.codes
    if status in (401, 402, 403) or codes & _ACCOUNT_CODES or _ACCOUNT_WORDS.search(text):
        return "upstream_unauthorized"
    if _has_large_output(details, text):
        return "upstream_rejected"
    if status == 413 or codes & _LONG_CODES or _LONG_WORDS.search(text):
        return "upstream_input_too_long"
    if status == 404 or codes & _UNKNOWN_MODEL_CODES or _UNKNOWN_MODEL_WORDS.search(text):
        return "upstream_model_not_found"
    if status in (429, 503, 529) or codes & _BUSY_CODES:
        return "upstream_busy"
    if status is None:
        rejected = any(_REJECTED_CODE.match(code) for code in codes)
        return "upstream_rejected" if rejected else "upstream_error"
    return _by_status(status, in_stream=in_stream)


def _by_status(status: int, *, in_stream: bool) -> str:
    match status:
        case 408 | 409 | 425:
            return "upstream_unavailable"
        case _ if status < 400:
            return "upstream_malformed"
        case _ if status < 500:
            return "upstream_rejected"
        case _:
            return "upstream_error" if in_stream else "upstream_unavailable"


def _has_large_output(details: _Details, text: str) -> bool:
    """True if it is the limit of the output that is too large, however short the input were."""
    if details.parameters & _LIMIT_PARAMETERS:
        return True
    for pattern in _SUMS:
        if found := pattern.search(text):
            return int(found["output"]) >= int(found["limit"])
    return bool(_LARGE_OUTPUT.search(text))
