"""Prompt templates: expands the `prompt: {id, variables}` of a request into a full request.

Templates come from the `[prompts]` tables of the models file, which override those of
`prompts.toml` beside this module. A template is expanded when a request is accepted, so later
changes to the template do not affect the job. `{{name}}` is replaced by the variable's value, which
is never expanded itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec

from jobs.config.models import catalog
from jobs.config.toml import InvalidTable, NonEmpty, Table, convert
from jobs.config.toml import invalid as invalid_key

from .api.context import packed_bytes, too_large
from .api.items import InputFile, InputImage, InputText, Message, OutputText
from .api.problem import Problem, invalid, name_list
from .api.request import Text

if TYPE_CHECKING:
    from .api.items import Item
    from .api.request import Create, Variable

BUILT_IN: Final = Path(__file__).parent / "prompts.toml"
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}", re.ASCII)
_VARIABLE: Final = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]{0,63})\s*\}\}", re.ASCII)

Part = InputText | OutputText | InputImage | InputFile


class TemplateMessage(Table, frozen=True, kw_only=True):
    """One message of a prompt template."""

    role: Literal["user", "assistant", "system", "developer"] = "user"
    content: NonEmpty


class Template(Table, frozen=True, kw_only=True):
    """A prompt template, which is one table under `[prompts]`.

    The `model`, `temperature` and `text` of a request override the template's values.
    """

    version: NonEmpty | None = None
    instructions: NonEmpty | None = None
    messages: tuple[TemplateMessage, ...] = ()
    model: NonEmpty | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    text: Text | None = None

    @property
    def variables(self) -> frozenset[str]:
        """The names of the variables that the template requires."""
        texts = [self.instructions or "", *(message.content for message in self.messages)]
        return frozenset(name for text in texts for name in _VARIABLE.findall(text))


Templates = Mapping[str, Template]


def templates(
    tables: Mapping[str, Any], knows: Callable[[str], bool] = lambda _: True
) -> dict[str, Template]:
    """Returns the templates of these tables, and the built-in templates with other ids.

    `knows` returns True if a model exists. Raises: InvalidTable.
    """
    built_in = catalog(BUILT_IN.read_text(encoding="utf-8")).prompts
    return {id_: _template(id_, one, knows) for id_, one in {**built_in, **tables}.items()}


def _template(id_: str, values: Any, knows: Callable[[str], bool]) -> Template:
    place = f"prompts.{id_}"
    if not _ID.fullmatch(id_):
        raise InvalidTable(f"[{place}] is not a valid id: use 1 to 128 letters, digits and . _ : -")
    template = convert(values, Template, place)
    if template.model and not knows(template.model):
        raise invalid_key(place, "model", f"is {template.model!r}, which is not in [models]")
    if template.instructions is None and not template.messages:
        raise invalid_key(place, "instructions", "is missing; set instructions or messages")
    return template


def allowed(known: Templates, may_use: Callable[[str], bool]) -> Templates:
    """Returns the templates for whose ids `may_use` returns True, by id."""
    return {id_: template for id_, template in known.items() if may_use(id_)}


def expanded(create: Create, known: Templates, max_bytes: int) -> Create:
    """Returns the request with its template expanded, or unchanged if it names no prompt.

    Raises: Problem, which names the part that is missing, unknown or too large.
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
            f"Prompt '{create.prompt.id}' requires the variable '{name}'.",
            "missing_required_parameter",
        )
    for name in sorted(variables.keys() - template.variables):
        needed = ", ".join(sorted(template.variables)) or "none"
        raise invalid(
            f"prompt.variables.{name}",
            f"Prompt '{create.prompt.id}' has no variable '{name}'. Known variables: {needed}.",
            "unknown_parameter",
        )
    if not create.input and not template.messages:
        raise invalid(
            "input",
            f"Prompt '{create.prompt.id}' has no messages. Send an 'input'.",
            "missing_required_parameter",
        )
    if _expanded_bytes(template, variables) > max_bytes:
        raise too_large("prompt.variables", max_bytes)
    return msgspec.structs.replace(
        create,
        input=_input(create, template, variables),
        instructions=_or(create.instructions, _instructions(template, variables)),
        model=_or(create.model, template.model),
        temperature=_or(create.temperature, template.temperature),
        text=_or(create.text, template.text),
    )


def _expanded_bytes(template: Template, variables: Mapping[str, Variable]) -> int:
    """Returns the size of an expanded template in bytes; each use of a variable counts."""
    texts = [template.instructions or "", *(message.content for message in template.messages)]
    sizes = {name: packed_bytes(value) for name, value in variables.items()}
    return sum(
        len(text.encode()) + sum(sizes[name] for name in _VARIABLE.findall(text)) for text in texts
    )


def _input(create: Create, template: Template, variables: Mapping[str, Variable]) -> list[Item]:
    """Returns the template's messages, followed by the request's own input."""
    begun: list[Item] = [
        Message(role=each.role, content=_content(each.role, each.content, variables))
        for each in template.messages
    ]
    return begun + create.items


def _instructions(template: Template, variables: Mapping[str, Variable]) -> str | None:
    if template.instructions is None:
        return None
    return "".join(_texts(_pieces(template.instructions, variables), "instructions"))


def _content(role: str, content: str, variables: Mapping[str, Variable]) -> str | list[Any]:
    """Returns a single string if all pieces are text, otherwise a list of content parts."""
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
    """Returns pairs of a variable's name and its value, or of "" and the text between variables."""
    # `split` returns text and names alternately. The values of variables are not searched for
    # names.
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
                message = f"The variable '{name}' must be text, because {where} contains it."
                raise invalid(f"prompt.variables.{name}", message)
    return texts


def _or(given: Any, otherwise: Any) -> Any:
    return otherwise if given is None else given


def _not_found(id_: str, known: Templates) -> Problem:
    if id_ in known:
        version = known[id_].version
        there = f"Its only version is '{version}'" if version else "It has no version"
        say = f"Prompt '{id_}' does not have this version. {there}. Leave the version out."
        return Problem(404, "prompt_not_found", say, param="prompt.version")
    say = f"Prompt '{id_[:64]}' not found. Available prompts: {name_list(sorted(known))}."
    return Problem(404, "prompt_not_found", say, param="prompt.id")
