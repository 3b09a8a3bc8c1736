"""Prompt templates: `prompt: {id, variables}` of a request -> the request that it stands for.

They come from the `[prompts]` tables of a models file, above those of `prompts.toml` beside this
module. A template is expanded when a request is accepted, so a job needs no template to still be
there. Where `{{name}}` stands, the variable is put in as it is: it is never read as a template.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from jobs.toml import Table, WrongTable, parse

from .api.items import InputFile, InputImage, InputText, Message, OutputText
from .api.problem import Problem, invalid
from .api.request import Text

if TYPE_CHECKING:
    from .api.items import Item
    from .api.request import Create, Variable

BUILT_IN: Final = Path(__file__).parent / "prompts.toml"
ROLES: Final = ("user", "assistant", "system", "developer")
MOST_NAMED: Final = 50
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}", re.ASCII)
_VARIABLE: Final = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]{0,63})\s*\}\}", re.ASCII)

Part = InputText | OutputText | InputImage | InputFile


@dataclass(frozen=True, slots=True)
class Template:
    """One template. What a request says itself comes before `model`, `temperature` and `text`."""

    id: str
    version: str | None
    instructions: str | None
    messages: tuple[tuple[str, str], ...]  # role, content
    model: str | None
    temperature: float | None
    text: Text | None

    @property
    def variables(self) -> frozenset[str]:
        """The names that it needs."""
        texts = [self.instructions or "", *(content for _, content in self.messages)]
        return frozenset(name for text in texts for name in _VARIABLE.findall(text))


Templates = Mapping[str, Template]


def templates(
    table: Table | None, knows: Callable[[str], bool] = lambda _: True
) -> dict[str, Template]:
    """The templates of a `[prompts]` table, and the built-in ones whose ids it does not use.

    `knows` says which models there are. Raises: WrongTable.
    """
    built_in = parse(BUILT_IN.read_text(encoding="utf-8")).table("prompts")
    found: dict[str, Template] = {}
    for source in (built_in, table):
        for id_, one in source.tables() if source else ():
            found[id_] = _template(id_, one, knows)
    return found


def _template(id_: str, table: Table, knows: Callable[[str], bool]) -> Template:
    if not _ID.fullmatch(id_):
        raise WrongTable(f"[{table.name}] is not an id: 1 to 128 letters, digits and . _ : -")
    model = table.text("model") or None
    if model and not knows(model):
        raise table.wrong("model", f"is {model!r}, which is no model of [models]")
    template = Template(
        id=id_,
        version=table.text("version") or None,
        instructions=table.text("instructions") or None,
        messages=_messages(table),
        model=model,
        temperature=table.number("temperature", 0, 2),
        text=_text(table),
    )
    if template.instructions is None and not template.messages:
        raise table.wrong("instructions", "is missing, and so are messages: one is needed")
    table.done()
    return template


def _messages(table: Table) -> tuple[tuple[str, str], ...]:
    messages = table.take("messages") or []
    if not isinstance(messages, list):
        raise table.wrong("messages", "must be a list of tables with role and content")
    return tuple(_message(table, message) for message in messages)


def _message(table: Table, message: Any) -> tuple[str, str]:
    inner = Table(f"{table.name}.messages", message if isinstance(message, dict) else {})
    role, content = inner.choice("role", *ROLES), inner.text("content")
    if not content:
        raise inner.wrong("content", "is missing")
    inner.done()
    return role, content


def _text(table: Table) -> Text | None:
    value = table.take("text")
    try:
        return None if value is None else msgspec.convert(value, Text)
    except msgspec.ValidationError as error:
        raise table.wrong("text", f"is not the standard's: {error}") from None


def allowed(known: Templates, may_use: Callable[[str], bool]) -> Templates:
    """The templates that may be used."""
    return {id_: template for id_, template in known.items() if may_use(id_)}


def expanded(create: Create, known: Templates) -> Create:
    """The request that this one stands for; the same where it names no prompt.

    Raises: Problem, which names what is missing, or unknown.
    """
    if create.prompt is None:
        return create
    template = known.get(create.prompt.id)
    version = create.prompt.version
    if template is None or version not in (None, template.version):
        raise _not_found(create.prompt.id, known)
    variables = create.prompt.variables or {}
    for name in sorted(template.variables - variables.keys()):
        raise invalid(
            f"prompt.variables.{name}",
            f"Prompt '{template.id}' needs the variable '{name}'.",
            "missing_required_parameter",
        )
    for name in sorted(variables.keys() - template.variables):
        needed = ", ".join(sorted(template.variables)) or "none"
        raise invalid(
            f"prompt.variables.{name}",
            f"Prompt '{template.id}' has no variable '{name}'. Its variables: {needed}.",
            "unknown_parameter",
        )
    if not create.input and not template.messages:
        raise invalid(
            "input",
            f"Prompt '{template.id}' has no messages: send an 'input'.",
            "missing_required_parameter",
        )
    return msgspec.structs.replace(
        create,
        input=_input(create, template, variables),
        instructions=_or(create.instructions, _instructions(template, variables)),
        model=_or(create.model, template.model),
        temperature=_or(create.temperature, template.temperature),
        text=_or(create.text, template.text),
    )


def _input(
    create: Create, template: Template, variables: Mapping[str, Variable]
) -> str | list[Item]:
    """The template's messages, then what the request itself asks."""
    if not template.messages:
        return create.input
    begun: list[Item] = [
        Message(role=role, content=_content(role, content, variables))  # type: ignore[arg-type]
        for role, content in template.messages
    ]
    if isinstance(create.input, str):
        return begun + ([Message(role="user", content=create.input)] if create.input else [])
    return begun + create.input


def _instructions(template: Template, variables: Mapping[str, Variable]) -> str | None:
    if template.instructions is None:
        return None
    return "".join(_texts(_pieces(template.instructions, variables), "instructions"))


def _content(role: str, content: str, variables: Mapping[str, Variable]) -> str | list[Any]:
    """One string where all of it is text, else the parts in their order."""
    pieces = _pieces(content, variables)
    if role != "user" or all(isinstance(value, str | InputText) for _, value in pieces):
        return "".join(_texts(pieces, f"a message of the role {role}"))
    parts: list[Part] = []
    for _, value in pieces:
        if isinstance(value, str):
            parts += [InputText(value)] if value.strip() else []
        else:
            parts.append(value)
    return parts


def _pieces(text: str, variables: Mapping[str, Variable]) -> list[tuple[str, Variable]]:
    """The text in pieces, each with the name of the variable that it is, or ""."""
    # Names and what is between them take turns; what a variable holds is not looked at again.
    pieces = enumerate(_VARIABLE.split(text))
    return [(piece, variables[piece]) if index % 2 else ("", piece) for index, piece in pieces]


def _texts(pieces: list[tuple[str, Variable]], where: str) -> list[str]:
    texts: list[str] = []
    for name, value in pieces:
        match value:
            case str():
                texts.append(value)
            case InputText(text=text):
                texts.append(text)
            case _:
                raise invalid(
                    f"prompt.variables.{name}", f"'{name}' stands in {where}: it must be text."
                )
    return texts


def _or(given: Any, otherwise: Any) -> Any:
    return otherwise if given is None else given


def _not_found(id_: str, known: Templates) -> Problem:
    if id_ in known:
        version = known[id_].version
        there = f"Its version is '{version}'" if version else "It has no version"
        say = f"Prompt '{id_}' is not there in this version. {there}; leave the version out."
        return Problem(404, "prompt_not_found", say, param="prompt.version")
    names = sorted(known)
    named = ", ".join(names[:MOST_NAMED]) + (", ..." if len(names) > MOST_NAMED else "")
    say = f"There is no prompt '{id_[:64]}' here. Known: {named}."
    return Problem(404, "prompt_not_found", say, param="prompt.id")
