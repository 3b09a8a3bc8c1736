"""Maps the errors of endpoints to keys of `outcome.CAUSES`.

An endpoint can report an error in four ways: by the HTTP status, in the body of an error response,
instead of a chunk, and by an event of the Responses API. A code or a message means the same in all
four ways, so this module classifies all errors. The first matching row applies:

    answer lost                         upstream_truncated, in a stream only
    content filter                      upstream_rejected, also with status 403
    402, quota, payment, credentials    upstream_unauthorized, because the operator has to act
    output limit too large              upstream_rejected, because a shorter input would not help
    input too long                      upstream_input_too_long
    unknown model                       upstream_model_not_found
    rate limit, overload                upstream_busy
    any other error                     a code for the status; in a stream, upstream_error

Error codes are compared without regard to case and separators, because servers spell the same code
in different ways. Error messages are searched too, because half of the servers have no code for an
input that is too long. The messages are never logged or sent to a client.
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
    {
        "__type",
        "code",
        "error_code",
        "error_type",
        "http_code",
        "reason",
        "status",
        "status_code",
        "type",
    }
)
_DELAY_FIELDS: Final = frozenset({"retrydelay", "retry_after", "retry_after_seconds"})
# Some servers refuse these arguments, which are optional. If an endpoint refuses
# `context_management`, the worker compacts conversations itself.
_STREAM_OPTIONS: Final = "stream_options"
_HINTS: Final = frozenset(
    {
        "context_management",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "user",
    }
)
_MAX_DEPTH: Final = 8
_MAX_WORDS: Final = 8192

_SEPARATORS: Final = re.compile(r"[\W_]")

# The code for an endpoint that has begun an answer and no longer has it. Another Holdline reports
# its errors for such an answer in the stream, with these codes.
LOST: Final = "upstream_truncated"
_LOST_CODES: Final = re.compile(
    r"^response(?:damaged|gone|notfound|rolledback)|^startingafterbeyondend"
)
_LOST_WORDS: Final = re.compile(r"\bresponse (?:with id )?\S{1,80} not found", re.IGNORECASE)

_FILTER_CODES: Final = re.compile(
    r"content(?:filter|policy)|datainspection|moderation|prohibitedcontent|responsibleai"
    r"|sensitivecontent"
)
_FILTER_WORDS: Final = re.compile(
    r"violat\w+ (?:our |the )?(?:usage|content|safety)|(?:input|prompt) was flagged"
    r"|(?:inappropriate|sensitive) (?:content|information)|content ?policy|content moderation"
    r"|new_sensitive|敏感|blocked\W+prohibited",
    re.IGNORECASE,
)
_ACCOUNT_CODES: Final = re.compile(
    r"accessterminated|account(?:deactivated|overdue)|apikeyinvalid|arrearage|authentication|billing"
    r"|blockedapiaccess|budgetexceeded|exceededcurrentquota|^forbidden|freetier"
    r"|(?:incorrect|invalid)apikey|insufficient(?:balance|credits?|quota)|notenoughbalance"
    r"|organizationrestricted|paymentrequired|permission|servicequota|unauth(?:enticated|orized)"
)
_ACCOUNT_WORDS: Final = re.compile(
    r"insufficient (?:account )?(?:balance|credits?|funds|quota)|credit balance is too low"
    r"|balance is (?:insufficient|too low)|requires more credits|can only afford|out of credits"
    r"|no (?:more )?credits|used all (?:of its |your )?available credits|spend(?:ing)? limit"
    r"|billing hard limit|(?:billing|account) is not active|payment required|余额不足|欠费|overdue"
    r"|api usage limits|budget has been exceeded|over budget|daily free allocation|trial key"
    r"|organization has been (?:disabled|restricted)|account \S{0,40} ?is suspended"
    r"|(?:incorrect|invalid) api key|api key (?:is )?(?:not valid|invalid|expired)",
    re.IGNORECASE,
)
_LONG_CODES: Final = re.compile(
    r"context(?:length|window|size)|(?:input|prompt|tokens)toolong|maxprompttokens|requesttoolarge"
    r"|tokenslimitreached"
)
# The error code for a string that is too long. The input is too long only if the string is one of
# the parameters below. Other parameters have limits too, for example the name of a tool.
_TEXT_CODE: Final = "stringabovemaxlength"
_TEXT_PARAMETERS: Final = frozenset(
    {"content", "input", "instructions", "messages", "output", "prompt", "text"}
)
_INPUT: Final = r"(?:prompt|inputs?|messages|request|tokens?|conversation|context)"
# Matches messages that report a single image or file as too large. Removing turns of the
# conversation would not help in this case.
_LARGE_PART: Final = re.compile(
    r"\b(?:image|file|document|attachment|video)s? (?:size )?(?:exceeds?\b|is too large)",
    re.IGNORECASE,
)
_CONTEXT: Final = r"context(?: length| size| window| limit)"
# Endpoints also send the message "request too large" for a rate limit, if a request has more tokens
# than the limit allows in a minute.
_LARGE_REQUEST: Final = r"request (?:body )?too large"
_LONG_WORDS: Final = re.compile(
    # Patterns for messages of Anthropic, Bedrock, Fireworks, Zhipu and Baidu.
    rf"\b{_INPUT}\W+(?:\w+\W+){{0,3}}(?:(?:is|are) )?too (?:long|large|big)"
    # Patterns for messages of Gemini, vLLM, SGLang, llama.cpp, OpenAI's Responses API, Ollama,
    # TensorRT-LLM, LM Studio and watsonx.
    rf"|\b{_INPUT}\b.{{0,80}}\b(?:exceed(?:s|ed)?|(?:longer|larger|greater) than|too large for)\b"
    rf".{{0,60}}\b(?:{_CONTEXT}|tokens? allowed|model length|(?<!rate )limit|max(?:imum)?\b|max_"
    r"|session_len)"
    r"|input token count.{0,60}only supports|exceeded max (?:input|prompt)|max input characters"
    # Patterns for messages of OpenAI, vLLM, DeepSeek, xAI, Mistral, Moonshot, MiniMax and LiteLLM.
    r"|maximum (?:context|prompt|model|input) length"
    rf"|exceeds? (?:the |this |your |model'?s? |model |available |maximum ){{0,4}}"
    rf"(?:{_CONTEXT}|token limit)|token limit exceeded|contextwindowexceeded"
    rf"|{_CONTEXT} (?:has been )?exceed|context the overflows|\(n_keep\b|n_keep \("
    # Patterns for messages of TGI, Together and DashScope.
    r"|inputs?\W{0,2} tokens? \+ \W?max_new_tokens|`inputs` must have less than"
    r"|range of input length should be"
    # Patterns for messages of SiliconFlow and ExLlama.
    r"|length of prompt_tokens \(\d+\) must be|requires \d+ pages \(only \d+ available\)"
    r"|(?:输入|上下文|提示).{0,12}(?:过长|太长|超出|超过)"
    # Patterns for messages of Groq, Cerebras, GitHub and Cohere.
    r"|reduce (?:the length of (?:the|your) (?:messages|prompt|input)"
    r"|your (?:message|prompt|input))"
    rf"|{_LARGE_REQUEST}|too many tokens|current length is \d+ while limit is \d+",
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
    rf"|range of {_LIMIT}|maximum allowed number of output tokens|supports at most \d+ completion"
    r"|maximum tokens you requested exceed",
    re.IGNORECASE,
)
# Messages that report the limit on the sum of input and output tokens, and the number of output
# tokens in that sum.
_SUMS: Final = (
    re.compile(
        r"length (?:is|of) (?P<limit>\d+) tokens.{0,400}"
        r"\W(?P<output>\d+) (?:tokens )?(?:in|for) the (?:completion|output)",
        re.DOTALL,
    ),
    re.compile(
        r"length is (?P<limit>\d+) tokens.{0,400}requested (?P<output>\d+) output tokens", re.DOTALL
    ),
    re.compile(
        r"requested (?P<output>\d+) output tokens.{0,400}length is only (?P<limit>\d+)", re.DOTALL
    ),
    re.compile(r"must be <= (?P<limit>\d+)\W+Given: \d+ \W?inputs\W? tokens and (?P<output>\d+)"),
    re.compile(r"context limit: \d+ \+ (?P<output>\d+) > (?P<limit>\d+)"),
    re.compile(r"\((?P<output>\d+) > (?P<limit>\d+) - \d+\)"),
)
# Matches messages with which vLLM and TensorRT-LLM report that the input leaves no room for any
# output.
_NO_ROOM: Final = re.compile(r"max_tokens (?:must be at least 1, got |\()-\d")
_UNKNOWN_MODEL_CODES: Final = re.compile(
    r"^notfound|deploymentnotfound|model(?:not|decommissioned)|(?:invalid|unknown)model"
)
_UNKNOWN_MODEL_WORDS: Final = re.compile(
    r"not a valid model|(?:invalid|unknown|no such) model|model not exist|unable to access model"
    r"|model\W.{0,80}\b(?:does not exist|not found)\b|model \S{0,80} ?is not supported"
    r"|no models loaded|model identifier is invalid|模型不存在",
    re.IGNORECASE,
)
_BUSY_CODES: Final = re.compile(
    r"capacity|limitrequests|overload|ratelimit|resourceexhausted|serverbusy|slowdown|throttl"
    r"|toomanyrequests|unavailable|^130[235]$"
)
_BUSY_WORDS: Final = re.compile(
    r"rate.?limit|too many requests|overloaded|too frequent|loading model", re.IGNORECASE
)
_REJECTED_CODES: Final = re.compile(
    r"^(?:invalid|image|missing)|invalidparam|unsupported|badrequest|validation|unprocessable"
    r"|failedprecondition"
)


@dataclass(frozen=True, slots=True)
class Failure:
    """A classified error of an endpoint.

    `code` is a key of `outcome.CAUSES`.

    `retry_after` is the delay in seconds that the error asks for. If the endpoint refused an
    optional argument of the request, `parameter` is the name of this argument.
    """

    code: str
    retry_after: float | None = None
    parameter: str = ""


@dataclass(slots=True)
class _Details:
    """The codes, numbers and messages of an error, collected from any JSON structure."""

    codes: set[str] = field(default_factory=set)
    numbers: list[int] = field(default_factory=list)
    parameters: set[str] = field(default_factory=set)
    words: list[str] = field(default_factory=list)
    retry_after: float | None = None

    def add(self, value: Any, name: str = "", depth: int = 0) -> None:
        """Adds a value of the error, and all values that are nested in it."""
        match value:
            case _ if depth > _MAX_DEPTH:
                pass
            case dict():
                if {"loc", "msg"} <= value.keys():  # an error of FastAPI, which quotes the request
                    self.codes.add("validation")
                    value = {name: value[name] for name in ("type", "loc", "msg") if name in value}
                for inner, one in value.items():
                    if inner.endswith("Exception"):  # a field of Bedrock's errors
                        self.codes.add(_SEPARATORS.sub("", inner.casefold()))
                    self.add(one, inner.casefold(), depth + 1)
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

    def has(self, codes: re.Pattern[str]) -> bool:
        """Returns True if one of the error's codes matches the pattern."""
        return any(map(codes.search, self.codes))

    def _text(self, value: str, name: str, depth: int) -> None:
        if name in _DELAY_FIELDS and re.fullmatch(r"\d{1,6}(?:\.\d{1,9})?s?", value):
            self.retry_after = float(value.removesuffix("s"))
        elif name in _CODE_FIELDS and value.isdecimal() and len(value) == 3:
            self.numbers.append(int(value))
        elif name in _CODE_FIELDS:
            self.codes.add(_SEPARATORS.sub("", value.casefold()))
        elif name in ("param", "loc"):
            self.parameters.add(value.rpartition(".")[2].casefold())
        self.words.append(value[:_MAX_WORDS])
        # A proxy may pass on the error of its own upstream as JSON in a string.
        if value.lstrip()[:1] in ("{", "["):
            try:
                inner = json.loads(value)
            except (ValueError, RecursionError):
                return
            self.add(inner, depth=depth + 1)


def classify(error: Any, status: int | None = None, *, begun: bool = False) -> Failure:
    """Classifies an error.

    `error` is its parsed JSON or its text, and `status` the HTTP status if there was one. `begun`
    is True for an error in the stream of an answer that the endpoint has begun. That endpoint knows
    the model, so anything that it does not find is the answer.
    """
    details = _Details()
    details.add(error)
    text = "\n".join(details.words)[:_MAX_WORDS]
    code = _code(details, text, status)
    if begun and code == "upstream_model_not_found":
        code = LOST
    return Failure(code, details.retry_after, _optional(code, details, text))


def _optional(code: str, details: _Details, text: str) -> str:
    """Returns the name of the optional argument that the endpoint refused, or ""."""
    if code != "upstream_rejected":
        return ""
    if _STREAM_OPTIONS in text:
        return _STREAM_OPTIONS
    return min(details.parameters & _HINTS, default="")


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Returns the retry delay in seconds that the headers of a response ask for, or None.

    If the delay is given as a date, it is compared with the header `Date` of the response, because
    the clocks of the two machines may differ. Without a header `Date`, it is compared with the
    local time `now`.
    """
    value = headers.get("retry-after", "")
    for name in ("retry-after-ms", "x-ms-retry-after-ms"):
        if (milliseconds := _number(headers.get(name, ""))) is not None:
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
    if in_stream and (status == 410 or details.has(_LOST_CODES) or _LOST_WORDS.search(text)):
        return LOST
    if details.has(_FILTER_CODES) or _FILTER_WORDS.search(text):
        return "upstream_rejected"
    if status in (401, 402, 403) or details.has(_ACCOUNT_CODES) or _ACCOUNT_WORDS.search(text):
        return "upstream_unauthorized"
    if (large_output := _has_large_output(details, text)) is not None:
        return "upstream_rejected" if large_output else "upstream_input_too_long"
    busy = status in (429, 503, 529) or details.has(_BUSY_CODES)
    if _is_too_long(details, text, status, busy=busy):
        return "upstream_input_too_long"
    if status == 404 or details.has(_UNKNOWN_MODEL_CODES) or _UNKNOWN_MODEL_WORDS.search(text):
        return "upstream_model_not_found"
    if busy or ((status is None or status >= 500) and _BUSY_WORDS.search(text)):
        return "upstream_busy"
    if status is None:
        return "upstream_rejected" if details.has(_REJECTED_CODES) else "upstream_error"
    return _by_status(status, in_stream=in_stream)


def _is_too_long(details: _Details, text: str, status: int | None, *, busy: bool) -> bool:
    if status == 413 or details.has(_LONG_CODES):
        return True
    if _TEXT_CODE in details.codes:
        return bool(details.parameters & _TEXT_PARAMETERS)
    if _LARGE_PART.search(text):
        return False
    # Messages about rate limits mention tokens in the same words as messages about a long input. So
    # if the endpoint is busy, only the phrase `_LARGE_REQUEST` counts.
    words = re.search(_LARGE_REQUEST, text, re.IGNORECASE) if busy else _LONG_WORDS.search(text)
    return words is not None


def _by_status(status: int, *, in_stream: bool) -> str:
    match status:
        case 408 | 409 | 424 | 425 | 499:
            return "upstream_unavailable"
        case _ if status < 400:
            return "upstream_malformed"
        case _ if status < 500:
            return "upstream_rejected"
        case _:
            return "upstream_error" if in_stream else "upstream_unavailable"


def _has_large_output(details: _Details, text: str) -> bool | None:
    """Returns True if the requested output limit is too large for any input.

    Returns False if a shorter input would make room for the output, and None if the error does not
    mention the output limit.
    """
    if _NO_ROOM.search(text):
        return False
    for pattern in _SUMS:
        if found := pattern.search(text):
            return int(found["output"]) >= int(found["limit"])
    if details.parameters & _LIMIT_PARAMETERS or _LARGE_OUTPUT.search(text):
        return True
    return None
