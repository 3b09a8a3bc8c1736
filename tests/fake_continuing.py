"""A mode of the fake model that continues the text in the last message.

The text is the same in each call. `Script.say` or `tokens` determines it, and `at` after how many
pieces the endpoint falls silent (never by default), or, with the mode `breaking`, breaks the
connection. `rude` says how a rude endpoint answers instead.
"""

from __future__ import annotations

from hashlib import sha1
from typing import Any

from tests.fake_chat import chunk, mode, stop, wait_forever
from tests.fake_wire import Call, Script, Wire

# The rude answers that do not continue the text: one begins with another text that begins in the
# same way, one with the end of the text, one lacks the space at the end of the text, one consists
# of reasoning, one is an error, and one ends at once without a stop reason. The answers `again`,
# `empty` and `length` do continue it: they begin with the whole text, are empty, or end at the
# limit of tokens. With `thinks`, the first answer begins with reasoning.
RUDE = ("other", "end", "space", "reasons", "fails", "breaks")


def answer(script: Script) -> list[str]:
    """Returns the tokens of the whole answer, which do not repeat one another."""
    if script.say:
        return list(script.say.replace("_", " ").replace("|", "\n"))
    return [sha1(b"%d" % index).hexdigest()[:5] + " " for index in range(script.tokens)]


def given(body: dict[str, Any]) -> str:
    """Returns the text that the model has to continue, or ""."""
    last = body["messages"][-1]
    if last["role"] != "assistant":
        return ""
    text: str = last["content"]
    assert text == text.rstrip()
    return text


async def _say(wire: Wire, script: Script, call: Call) -> None:
    text = "".join(answer(script))
    begun = given(call.body)
    await wire.begin()
    await wire.event(chunk({"role": "assistant", "content": ""}))
    rest = text[len(begun) :]
    if not begun and script.rude == "thinks":
        await wire.event(chunk({"reasoning_content": "Well. "}))
    if begun:
        assert text.startswith(begun)
        match script.rude:
            case "again":
                rest = text
            case "other":
                rest = text[:40] + "another text"
            case "end":
                rest = begun[-40:] + rest
            case "space":
                rest = rest.lstrip()
            case "reasons":
                await wire.event(chunk({"reasoning_content": rest}))
                rest = ""
            case "fails":
                await wire.event({"error": {"message": "cannot go on", "code": 500}})
            case "empty" | "breaks":
                rest = ""
            case _:
                pass
    pieces = [rest[start : start + 5] for start in range(0, len(rest), 5)]
    for piece in pieces[: script.at if script.at >= 0 else None]:
        await wire.event(chunk({"content": piece}))
        call.sent += piece
    call.whole = script.at < 0 or len(pieces) <= script.at


@mode
async def continuing(wire: Wire, script: Script, call: Call) -> None:
    """Continues the text, and falls silent after `at` pieces."""
    await _say(wire, script, call)
    if not call.whole:
        await wait_forever()
    if script.rude == "breaks" and given(call.body):
        await wire.end()
        return
    await stop(wire, script, call, "length" if script.rude == "length" else "stop")


@mode
async def breaking(wire: Wire, script: Script, call: Call) -> None:
    """Continues the text, and ends the body without a stop reason after `at` pieces."""
    await _say(wire, script, call)
    if call.whole:
        await stop(wire, script, call)
    else:
        await wire.end()
