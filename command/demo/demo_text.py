"""Generates the answers of the simulated model from the prompt by fixed rules, without an AI."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .review import DEEP, LONG_FUNCTION, LONG_LINE, Observations, observe, split

NOTICE = (
    "*This is Holdline's simulated model: a simulation, not an AI. "
    "It writes by rule, at the pace of a real model.*"
)
WORDS = """Words in the last message that change what the simulated model does:
  slowly        write at an eighth of the usual speed
  fail          reply with HTTP 500
  rate limit    reply with HTTP 429 and Retry-After: 1
  be cut        close the connection in the middle of the stream
  ... once      as in "fail once": only the first request fails, is limited or is cut
  call a tool   call the first tool of the request ("call the tool" works too)
The simulated model reviews pasted code, and ignores these words inside code."""

TOKEN = re.compile(r"\s*\w{1,6}|\s*[^\w\s]|\s+")
QUOTED = 400
REMEMBERED = 5


@dataclass(frozen=True)
class Wish:
    """The special behaviours of the simulated model, such as a failure, that a prompt requests."""

    slowly: bool = False
    fail: bool = False
    rate_limit: bool = False
    be_cut: bool = False
    once: bool = False
    call_tool: bool = False


def wish(prompt: str) -> Wish:
    prose, _code = split(prompt)
    prose = prose.lower()

    def has(words: str) -> bool:
        return re.search(rf"\b{words}\b", prose) is not None

    return Wish(
        slowly=has("slowly"),
        fail=has("fail"),
        rate_limit=has("rate limit"),
        be_cut=has("be cut"),
        once=has("(?:fail|rate limit|be cut) once"),
        call_tool=has("call (?:a|the) tool"),
    )


def tokens(text: str) -> list[str]:
    """Divides a text into pieces that are about as long as a model's tokens.

    The pieces contain every character of the text.
    """
    return TOKEN.findall(text)


def text_of(message: Mapping[str, Any]) -> str:
    """Returns the text of a chat message, whose content is a string or a list of parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "\n".join(
        str(part.get("text", f"[{part.get('type')}]")) for part in parts if isinstance(part, dict)
    )


def asked(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the texts of the user's messages, in order."""
    return [text_of(message) for message in messages if message.get("role") == "user"]


def answer(messages: Sequence[Mapping[str, Any]]) -> str:
    """Returns the simulated model's answer to a conversation, in Markdown."""
    turns = asked(messages) or [""]
    prompt = turns[-1]
    prose, code = split(prompt)
    sections = [
        f"# {'A review of your code' if code else 'An answer, at a human pace'}",
        NOTICE,
        "" if code and not prose.strip() else f"You asked:\n\n{_quote(prose.strip())}",
        _tool_results(messages),
        _memory(turns[:-1]),
        *(_review(observe(text, language)) for language, text in code),
    ]
    if not code:
        sections += [_journey(), _numbers(prompt, messages), _example()]
    return "\n\n".join(section for section in sections if section) + "\n"


def _quote(text: str) -> str:
    short = text if len(text) <= QUOTED else f"{text[:QUOTED]} …"
    return "\n".join(f"> {line}" for line in short.splitlines())


def _memory(earlier: Sequence[str]) -> str:
    if not earlier:
        return ""
    said = [split(turn)[0].split() for turn in earlier[-REMEMBERED:]]
    short = [" ".join(words[:20]) + (" …" if len(words) > 20 else "") for words in said]
    count = "once" if len(earlier) == 1 else f"{len(earlier)} times"
    listed = "\n".join(f"- “{text or '(code)'}”" for text in short)
    return f"## What you asked before\n\nYou have asked {count} before this, lately:\n\n{listed}"


def _tool_results(messages: Sequence[Mapping[str, Any]]) -> str:
    results = []
    for message in reversed(messages):
        if message.get("role") != "tool":
            break
        results.append(f"The tool answered:\n\n{_quote(text_of(message) or '(nothing)')}")
    return "\n\n".join(reversed(results))


def _journey() -> str:
    return """## What happens while you read this

1. Your prompt was accepted and given an id **before** anything was asked of a model.
2. It waited in a list in Redis until a worker claimed it.
3. The worker reads this stream and appends every piece to a log.
4. A server follows the log and pushes each piece to you.

Reload the page, or cut the connection: the text goes on where it stopped."""


def _numbers(prompt: str, messages: Sequence[Mapping[str, Any]]) -> str:
    return f"""## In numbers

| what | how much |
|---|---:|
| words in your question | {len(prompt.split())} |
| characters in your question | {len(prompt)} |
| messages that came with it | {len(messages)} |"""


def _example() -> str:
    return """## And some code

```python
from openai import OpenAI

client = OpenAI(base_url="http://127.0.0.1:8080/v1", api_key="any")
stream = client.responses.create(input="Why is the sky blue?", stream=True)
for event in stream:
    if event.type == "response.output_text.delta":
        print(event.delta, end="", flush=True)
```

Ask me to answer slowly, to fail once or to be cut once, and watch what reaches you."""


def _review(seen: Observations) -> str:
    facts = f"**{seen.lines} lines** of {seen.language}, {_count(len(seen.functions), 'function')}."
    return "\n\n".join(
        [
            facts,
            f"## Improvements\n\n{_listed(_improvements(seen))}",
            f"## Complexity\n\n{_complexity(seen)}",
            f"## Bugs\n\n{_listed(_bugs(seen))}",
        ]
    )


def _bugs(seen: Observations) -> list[str]:
    return [f"line {fault.line} ({fault.severity}): {fault.text}" for fault in seen.faults]


def _improvements(seen: Observations) -> list[str]:
    found = [f"line {line} (low): a {mark} is waiting" for line, mark in seen.marks]
    found += [
        f"line {line} (low): longer than {LONG_LINE} characters" for line in seen.long_lines[:10]
    ]
    if (longest := seen.longest) and longest.length > LONG_FUNCTION:
        where = f"lines {longest.line} to {longest.line + longest.length - 1}"
        found.append(f"{where} (medium): `{longest.name}` is longer than {LONG_FUNCTION} lines")
    if seen.depth >= DEEP:
        found.append(f"{seen.depth} blocks inside each other: return early, or name the inner part")
    return found


def _complexity(seen: Observations) -> str:
    rows = [f"| lines | {seen.lines} |", f"| functions | {len(seen.functions)} |"]
    if longest := seen.longest:
        where = f"`{longest.name}`, {_count(longest.length, 'line')}, from line {longest.line}"
        rows.append(f"| longest function | {where} |")
    rows.append(f"| deepest nesting | {seen.depth} |")
    return "\n".join(["| what | value |", "|---|---|", *rows])


def _listed(found: Sequence[str]) -> str:
    return "\n".join(f"- {item}" for item in found) or "Nothing that simple rules can see."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
