"""Reads from environment variables the settings that `settings_table.py` declares.

Server and worker may run with the same environment variables, so each program accepts the settings
of the other one. `python -m jobs.config.settings` prints the table for `docs/configure.md`.
"""

from __future__ import annotations

import difflib
import re
import textwrap
from collections.abc import Mapping
from typing import Final

from jobs.errors import HoldlineError
from runtime.number import parse_number

from .service_links import is_service_address, service_links
from .setting import ALL
from .settings_table import SETTINGS

PREFIX: Final = "HOLDLINE_"

RENAMED: Final = {
    "HOLDLINE_KEYS": "HOLDLINE_API_KEYS",
    "HOLDLINE_ORIGINS": "HOLDLINE_ALLOWED_ORIGINS",
    "HOLDLINE_TOTAL_SECONDS": "HOLDLINE_MODEL_TIMEOUT_SECONDS",
    "HOLDLINE_SILENCE_SECONDS": "HOLDLINE_STALL_TIMEOUT_SECONDS",
    "HOLDLINE_GRACE_SECONDS": "HOLDLINE_SHUTDOWN_GRACE_SECONDS",
}


class ConfigError(HoldlineError):
    """A setting is invalid. The message names the setting and says which values are valid."""


def ignored_links(environ: Mapping[str, str]) -> list[str]:
    """Returns the settings that this process ignores because Kubernetes or Docker has set them."""
    return [name for name in SETTINGS if _is_link(name, environ.get(name, ""))]


def check_names(environ: Mapping[str, str]) -> None:
    """Raises ConfigError if a variable that begins with HOLDLINE_ is not a setting.

    The message names the most similar setting. Variables that Kubernetes or Docker has set for a
    service are ignored; see `service_links`.
    """
    for name in sorted(environ.keys() - service_links(environ)):
        if name in RENAMED:
            raise ConfigError(f"{name} was renamed: set {RENAMED[name]} instead")
        if name.startswith(PREFIX) and name not in SETTINGS:
            # The prefix HOLDLINE_ is removed before the comparison, because some settings, such as
            # REDIS_URL and OPENAI_API_KEY, do not have it.
            wanted = name.upper().removeprefix(PREFIX)
            names = {known.removeprefix(PREFIX): known for known in SETTINGS}
            longer = [known for known in names if len(wanted) > 2 and wanted in known]
            cutoff = 0.0 if longer else 0.5
            near = difflib.get_close_matches(wanted, longer or names, n=1, cutoff=cutoff)
            if not near:
                raise ConfigError(f"{name} is not a setting; --help lists all settings")
            found = names[near[0]]
            about = SETTINGS[found].plain_help
            raise ConfigError(f"{name} is not a setting; did you mean {found} ({about})?")


def text(environ: Mapping[str, str], name: str) -> str:
    """Returns the value of a setting, or its default if it is empty or not set.

    Raises: ConfigError if the setting has choices and the value is not one of them.
    """
    setting, value = SETTINGS[name], environ.get(name, "").strip()
    if not value or _is_link(name, value):
        value = str(setting.default)
    if setting.choices and value not in setting.choices:
        raise ConfigError(f"{name} must be {' or '.join(setting.choices)}, not {value!r}")
    return value


def _is_link(name: str, value: str) -> bool:
    return name.endswith("_PORT") and is_service_address(value)


def number(environ: Mapping[str, str], name: str) -> float:
    """Returns the value of a setting that is a number.

    Raises: ConfigError.
    """
    setting, written = SETTINGS[name], text(environ, name)
    try:
        value = parse_number(written)
    except ValueError:
        raise ConfigError(f"{name} must be a number, not {written!r}") from None
    if not setting.least <= value <= setting.most:
        raise ConfigError(
            f"{name} must be between {setting.least:.15g} and {setting.most:.15g}, not {written}"
        )
    return value


def whole(environ: Mapping[str, str], name: str) -> int:
    """Returns the value of a setting that is a number, rounded down to a whole number.

    Raises: ConfigError.
    """
    return int(number(environ, name))


def milliseconds(environ: Mapping[str, str], name: str) -> int:
    """Converts the value of a setting from seconds to milliseconds and returns it.

    Raises: ConfigError.
    """
    return round(1000 * number(environ, name))


def help_text(program: str) -> str:
    """Returns the settings section of the `--help` of a program: "server" or "worker"."""
    lines = ["settings (environment variables):"]
    for setting in SETTINGS.values():
        if setting.readers != ALL and program not in setting.readers:
            continue
        bounds = f" ({setting.bounds.replace(', ', ' to ')})" if setting.bounds else ""
        indent = " " * 6
        lines.append(f"  {setting.name}")
        lines += textwrap.wrap(
            setting.plain_help, 90, initial_indent=indent, subsequent_indent=indent
        )
        lines.append(f"{indent}default: {setting.shown_default.strip('`') or 'not set'}{bounds}")
    return "\n".join(lines)


def markdown() -> str:
    """Returns the table of all settings in Markdown, for the documentation."""
    lines = ["| name | default | minimum, maximum | meaning | read by |", "|---|---|---|---|---|"]
    for each in SETTINGS.values():
        cells = (f"`{each.name}`", each.shown_default, each.bounds, each.help, each.readers)
        lines.append(re.sub(" +", " ", f"| {' | '.join(cells)} |"))
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown())  # noqa: T201 - this is a command
