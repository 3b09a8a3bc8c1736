"""Tests that an invalid target file is rejected with its key and its line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.torture.target_text import VALID
from torture import cli
from torture.cases import all_cases
from torture.errors import TargetError, UsageError
from torture.runner import plan
from torture.target import FAULTS, PLAIN, ROLES, ROUTES, load

ROOT = Path(__file__).parent.parent.parent
TARGETS = sorted((ROOT / "torture/targets").glob("*.toml"))
PAGE = (ROOT / "docs/torture.md").read_text()


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return path


def test_a_valid_file_is_read(tmp_path: Path) -> None:
    target = load(written(tmp_path, VALID), {"level": "2"})
    assert ("mine", {"level": "2"}) == (target.key, target.parameters)
    assert {"responses", "stream", "turns", "model", "separate worker"} == target.offers
    assert ["stream.complete"] == [one.case.id for one in plan(target) if one.claim]


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ('name = "Mine"', 'nam = "Mine"', 0, "name is missing"),
        ('about = "A server."', "about = 3", 2, "about: must be a string"),
        ('home = "https', 'home = "htps', 3, "home: must be a URL"),
        ('name = "simulation"', 'nmae = "simulation"', 8, "model: name is missing"),
        (
            '[model]\nname = "simulation"',
            '[model]\nname = "simulation"\nports = 3',
            10,
            "model.ports: unknown key; did you mean 'port'?",
        ),
        ('["responses", "stream"]', '["responses", "steam"]', 12, "'steam' is not one of"),
        ('roles = ["worker"]', 'roles = ["worer"]', 23, "process[2].roles: 'worer'"),
        ('start = ["work", "{model_url}"]', "", 21, "process[2]: start is missing"),
        ("{model_url}", "{modelurl}", 24, "process[2].start: unknown placeholder {modelurl}"),
        ("{parameter:level}", "{parameter:other}", 17, "placeholder {parameter:other}"),
        ("ready = { http =", "ready = { htp =", 19, "process[1].ready.htp: unknown key"),
        ('name = "worker"', 'name = "server"', 22, "'server' is used twice"),
        ('url = "http://127.0.0.1:{port}/v1"\n', "", 14, "url is missing"),
        ('name = "worker"', 'name = "worker"\ncount = 0', 23, "must be between 1 and 16"),
        ('name = "worker"', 'name = "worker"\ncount = true', 23, "must be a number"),
        ('name = "worker"', 'name = "worker"\nstop_signal = "KILL"', 23, "must be one of TERM"),
        ('home = "https', 'home = """https', 3, "mine.toml:"),
        ("https://example.com/streams", "htps://example.com", 28, "not 'htps://example.com'"),
        ("https://example.com/streams", "https://", 28, "claim[1].url: must be a URL"),
        ("http://127.0.0.1:{port}/v1", "127.0.0.1:{port}/v1", 18, "must be a URL with http://"),
        ("{port}/v1", "{port}/v1/responses", 18, "the base URL, without /responses"),
        ("http://127.0.0.1:{port}/health", "/health", 19, "process[1].ready.http: must be a URL"),
        ("http = ", "tcp = ", 19, "process[1].ready.tcp: must have the form HOST:PORT"),
        (
            'http = "http',
            'output = "(http',
            19,
            "process[1].ready.output: is not a regular expression",
        ),
        ('{ http = "http://127.0.0.1:{port}/health" }', "{}", 19, "must have one key"),
    ],
)
def test_an_invalid_file_is_rejected_with_its_line(
    tmp_path: Path, old: str, new: str, line: int, message: str
) -> None:
    assert old in VALID
    with pytest.raises(TargetError) as caught:
        load(written(tmp_path, VALID.replace(old, new, 1)))
    assert message in str(caught.value)
    if "mine.toml:" not in message:
        assert line == caught.value.line


@pytest.mark.parametrize(
    ("cases", "message"),
    [
        ('"stream.complet"', "no case is 'stream.complet'"),
        ('"resume.reload"', "needs what the target does not offer: background, resume"),
    ],
)
def test_a_claim_that_cannot_be_tested_is_rejected(
    tmp_path: Path, cases: str, message: str
) -> None:
    target = load(written(tmp_path, VALID.replace('"stream.complete"', cases)))
    with pytest.raises(TargetError, match=r"mine\.toml:27: claim\[1\]\.cases") as caught:
        plan(target)
    assert message in str(caught.value)


def test_a_claim_of_a_group_may_contain_impossible_cases(tmp_path: Path) -> None:
    target = load(written(tmp_path, VALID.replace('"stream.complete"', '"stream"')))
    found = {one.case.id: one.missing for one in plan(target) if one.claim}
    assert set() == found["stream.complete"]
    assert {"background", "resume"} == found["stream.slow_reader"]


def test_a_file_that_is_nested_too_deeply_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="is nested too deeply"):
        load(written(tmp_path, f"a = {'[' * 3_000}"))


def test_an_unknown_parameter_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="has no parameter 'levl'"):
        load(written(tmp_path, VALID), {"levl": "2"})


def test_a_pattern_without_cases_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no case matches 'steam'"):
        plan(load(written(tmp_path, VALID)), ["steam"])


def test_the_command_reports_an_invalid_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, VALID.replace("about", "abuot"))
    assert 2 == cli.main(["run", "--target", str(path), "--list"])
    assert "about is missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--case", "foreground"],
            "the target claims none of the chosen cases; --all runs them too",
        ),
        (["--case", "websocket", "--all"], "the target does not offer: "),
        (["--json", "no/such/folder.json"], "cannot be written: no/such is not a folder"),
        (["--html", "no/such/folder.html"], "cannot be written: no/such is not a folder"),
    ],
)
def test_a_run_that_would_report_nothing_is_rejected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert 2 == cli.main(["run", "--target", str(written(tmp_path, VALID)), *options])
    assert message in capsys.readouterr().err


def test_a_target_file_that_does_not_exist_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 2 == cli.main(["run", "--target", str(tmp_path / "none.toml")])
    shown = f"torture: {tmp_path}/none.toml: cannot be read: No such file or directory\n"
    assert shown == capsys.readouterr().err


@pytest.mark.parametrize("factor", ["0", "-1", "nan", "inf", "x"])
def test_an_impossible_time_factor_is_rejected(tmp_path: Path, factor: str) -> None:
    with pytest.raises(SystemExit):
        cli.main(["run", "--target", str(written(tmp_path, VALID)), "--time-factor", factor])


@pytest.mark.parametrize("path", TARGETS, ids=lambda path: path.stem)
def test_a_shipped_target_is_valid_and_documented(path: Path) -> None:
    target = load(path)
    assert path.stem == target.key
    assert [one for one in plan(target) if one.claim], "claims nothing"
    assert f"../torture/targets/{path.name}" in PAGE
    for claim in target.claims:
        if "://" not in claim.url:
            assert (path.parent / claim.url.partition("#")[0]).exists()
    for name in target.setup.files:
        assert (path.parent / name).exists()


def test_each_case_says_its_claim_in_one_sentence() -> None:
    cases = all_cases()
    assert len(cases) == len({case.claim for case in cases})
    for case in cases:
        assert case.claim.endswith("."), case.id
        assert case.claim[0].isupper(), case.id
        assert case.section.startswith("https://"), case.id


def test_the_page_documents_all_routes_and_placeholders() -> None:
    for route in ROUTES:
        assert f"| `{route}` |" in PAGE
    for name in PLAIN:
        assert f"| `{{{name}}}` |" in PAGE


def test_the_page_documents_all_needs() -> None:
    table = PAGE.partition("| need | the target has it if |")[2].partition("\n\n")[0]
    faults = {f"{fault} {role}" for fault in FAULTS for role in ROLES}
    for need in {need for case in all_cases() for need in case.needs} - {*ROUTES, *faults}:
        assert f"`{need}`" in table, need


def test_the_example_of_the_page_is_valid_and_its_error_is_as_documented(tmp_path: Path) -> None:
    (example,) = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert [one for one in plan(load(written(tmp_path, example))) if one.claim]
    with pytest.raises(TargetError) as caught:
        load(written(tmp_path, example.replace("stall_seconds", "stall_second")))
    shown = str(caught.value).replace(f"{tmp_path}/mine", "my-server")
    assert f"torture: {shown}\n" in PAGE


def test_the_page_documents_all_groups() -> None:
    table = PAGE.partition("| group | what happens |")[2].partition("\n\n")[0]
    for group in {case.id.partition(".")[0] for case in all_cases()}:
        assert f"`{group}`" in table, group


def test_a_missing_key_ends_the_run_before_its_first_case(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    path = next(path for path in TARGETS if path.stem == "openai")
    assert 2 == cli.main(["run", "--target", str(path)])
    assert "torture: the environment variable OPENAI_API_KEY is not set\n" == (
        capsys.readouterr().err
    )
