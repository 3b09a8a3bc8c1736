"""Tests the script files' headers and includes, and the Python calls generated from them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from jobs import scripts as scripts_module
from jobs.scripts import SCRIPTS, Script, WrongArguments, calls, check_includes

FOLDER = Path(scripts_module.__file__).parent
FILES = sorted(path for path in FOLDER.glob("*.lua") if not path.stem.startswith("_"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_script_documents_its_arguments_and_why_it_is_repeatable(path: Path) -> None:
    first, *lines = path.read_text(encoding="utf-8").splitlines()
    header = "\n".join(line for line in lines if line.startswith("--"))

    assert re.fullmatch(r"#!lua( flags=[a-z-]+)?", first)
    for heading in ("KEYS", "ARGV", "Returns", "May be repeated:"):
        assert re.search(rf"^-- {heading} ?\S*", header, re.MULTILINE), heading


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_scripts_read_only_the_clock_of_redis(path: Path) -> None:
    assert not re.search(r"\bos\.|math\.random", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=lambda script: script.name)
def test_the_source_of_a_script_declares_no_unused_names(script: Script) -> None:
    source = script.source.decode()
    declared = re.findall(r"^local (?:function )?(\w+)", source, re.MULTILINE)
    named = set(declared) - set(script.keys)
    unused = [name for name in named if len(re.findall(rf"\b{name}\b", source)) == 1]
    assert [] == unused
    assert len(set(declared)) == len(declared)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("-- @include now", r"missing \['push'\], unused or unknown \[\]"),
        ("-- @include now push keep", r"missing \[\], unused or unknown \['keep'\]"),
        ("-- @include now\n-- @include push other", r"unused or unknown \['other'\]"),
    ],
)
def test_missing_and_unused_includes_are_errors(header: str, message: str) -> None:
    parts = {"now", "push", "keep"}
    code = "push(log, now(), job.keep, 'keep') -- keep\n"
    assert {"now", "push"} == check_includes(f"-- @include now push\n{code}", parts)
    with pytest.raises(WrongArguments, match=message):
        check_includes(f"{header}\n{code}", parts)


def test_the_script_that_runs_for_each_token_defines_two_functions_only() -> None:
    source = SCRIPTS["append"].source.decode()
    assert ["notify", "push"] == re.findall(r"function (\w+)", source)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_script_reads_its_arguments_by_the_names_in_its_header(path: Path) -> None:
    script, code = SCRIPTS[path.stem], re.sub(r"--.*", "", path.read_text(encoding="utf-8"))
    assert not re.search(r"\b(KEYS|ARGV)\b", code)
    # A script might not use one of its keys, because a cluster needs that key only to determine the
    # slot. Each argument must be used.
    names = [*script.args, *filter(None, [script.rest])]
    assert [] == [name for name in names if not re.search(rf"\b{name}\b", code)]


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=lambda script: script.name)
def test_a_call_must_name_exactly_the_arguments_of_the_header(script: Script) -> None:
    call, rest = getattr(calls, script.name), [script.rest] if script.rest else []
    names = [*script.keys, *script.args, *rest]
    right = {name: ["a", "b"] if name in rest else name for name in names}
    more = ["a", "b"] if rest else []
    assert (script.name, len(script.keys), *script.keys, *script.args, *more) == call(**right)
    for name in names:
        with pytest.raises(TypeError, match=rf"{script.name}\(\) missing 1 .*: '{name}'"):
            call(**{key: value for key, value in right.items() if key != name})
    with pytest.raises(TypeError, match=rf"{script.name}\(\) got an unexpected .* 'other'"):
        call(**right, other="")
    with pytest.raises(TypeError, match="positional"):
        call(*right.values())
