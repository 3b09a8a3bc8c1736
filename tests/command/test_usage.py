"""Tests that a wrong argument is wrong usage: exit status 2, and one line that names it."""

from __future__ import annotations

import pytest

from tests import commands

LONG = "x" * 257
TENANT = "a tenant must be 1 to 64 letters, digits and _ . -"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tenants", "show", "a b"], f"Invalid value for 'TENANT': {TENANT}"),
        (["tenants", "set", "", "running=1"], f"Invalid value for 'TENANT': {TENANT}"),
        (["tenants", "clear", "a/b"], f"Invalid value for 'TENANT': {TENANT}"),
        (["keys", "create", "a b"], f"Invalid value for 'TENANT': {TENANT}"),
        (["keys", "create", "acme", "--scopes", "reed"], "'reed' is not a scope; did you mean"),
        (["keys", "create", "acme", "--model", ""], "'--model': the text must have 1 to 256"),
        (["keys", "create", "acme", "--note", LONG], "'--note': the text must have 0 to 256"),
        (["keys", "create", "acme", "--expires", "1y"], "'--expires': a duration must be"),
        (["keys", "rotate", ""], "ID is empty"),
        (["keys", "revoke", " "], "ID is empty"),
        (["signers", "add", ""], "'KID': the text must have 1 to 128 characters, not 0"),
        (["signers", "add", "a", "--tenant", "a b"], f"Invalid value for '--tenant': {TENANT}"),
        (["signers", "remove", ""], "KID is empty"),
        (["subject", "export", "acme"], "acme does not have the form TENANT/SUBJECT"),
        (["subject", "delete", "a b/x"], "the tenant must be 1 to 64 letters"),
        (["subject", "hash", f"acme/{LONG}"], "the subject must be 1 to 256 bytes"),
        (["dead", "again", ""], "RESPONSE_ID is empty"),
        (["dead", "drop", ""], "RESPONSE_ID is empty"),
        (["status", " "], "RESPONSE_ID is empty"),
        (["audit", "--since", "-1d"], "'--since': a duration must be between 0s and 3650d"),
        (["demo-model", "--port", "65536"], "'--port': 65536 is not in the range 1<=x<=65535"),
        (["server", "--processes", "0"], "'--processes': 0 is not in the range 1<=x<=64"),
        (["worker", "--processes", "x"], "'--processes': 'x' is not a whole number"),
        (["worker", "--processes", "٣"], "'--processes': '٣' is not a whole number"),
        (["demo-model", "--port", "8_090"], "'--port': '8_090' is not a whole number"),
        (["tenants", "set", "acme", "running=٣"], "running must be a number, not '٣'"),
        (["tenants", "set", "acme", "weight=1_0"], "weight must be a number, not '1_0'"),
        (["tenants", "set", "acme", "weight=inf"], "weight must be a number, not 'inf'"),
        (["tenants", "set", "acme", "running=1", "running=2"], "running is given twice"),
        (["tenants", "set", "a", "running=1", "weight=1", "running=default"], "running is given"),
        (["keys", "create", "acme", "--expires", "٩d"], "'--expires': a duration must be"),
        (["keys", "create", "acme", "--expires", "1d", "--expires", "2d"], "--expires is given"),
        (["keys", "create", "acme", "--note", "a", "--note", "a"], "--note is given twice"),
        (["audit", "--since", "1d", "--target", "a", "--since", "9d"], "--since is given twice"),
        (["completion", "tcsh"], "'tcsh' is not one of 'bash', 'zsh', 'fish'"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_a_wrong_argument_is_wrong_usage(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 2 == commands.run(*arguments)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("holdline " + arguments[0])
    assert said in line
    assert " --help" in line.rpartition("; see holdline ")[2]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "a prompt, - for standard input, or --id is required"),
        ([" "], "the prompt is empty"),
        (["Why?", "--id", "resp_1"], "use either a prompt or --id, not both"),
        (["Why?", "--after", "x"], "argument --after: 'x' is not a whole number"),
        (["Why?", "--after", "٣"], "argument --after: '٣' is not a whole number"),
        (["Why?", "--key", "a", "--key", "b"], "argument --key: the option is given twice"),
        (["Why?", "--prev", "x"], "unrecognized arguments: --prev x"),
        (["Why?", "--url", "nowhere"], "'nowhere' is not the URL of a server"),
        (["Why?", "\x1b[2J"], "unrecognized arguments: \\x1b[2J"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_a_wrong_argument_of_ask_is_reported_like_that_of_other_commands(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        commands.run("ask", *arguments)
    assert 2 == ended.value.code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("holdline ask: ")
    assert said in line
    assert line.endswith("; see holdline ask --help")


def test_the_help_of_ask_has_the_parts_of_other_commands(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        commands.run("ask", "--help")
    lines = capsys.readouterr().out.splitlines()
    assert "Usage: holdline ask [OPTIONS] [PROMPT]" == lines[0]
    assert {"examples:", "Options:", "environment:"} <= set(lines)
    assert any(
        line.split() == ["-h,", "--help", "Show", "this", "message", "and", "exit."]
        for line in lines
    )
    assert max(map(len, lines)) <= 100
