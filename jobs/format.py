"""The version of the format in which Holdline stores its data in Redis.

Readers ignore fields that they do not know, so a version of Holdline that only adds fields keeps
the format. `FORMAT` grows when an older version would misread the data. Each version recognizes the
data of a newer format, and leaves it to newer processes:

    the key `format`       the newest format that a process has written; older processes do not
                           start
    the name of a queue    from format 2 on, begins with the format of its jobs and `/`; older
                           workers neither claim nor end these jobs
    a job, a block         begins with the number of its format
    a log entry            begins with a code or a type of event; codes never change their meaning,
                           and a newer format may add codes
    a turn, a steer,       from format 2 on, an array that begins with the number of its format
      an item or metadata
      of a conversation

`docs/upgrade.md` describes the consequences for upgrades.
"""

from __future__ import annotations

from typing import Any, Final

from jobs.errors import NewerFormat

FORMAT: Final = 1


def check_format(value: Any) -> None:
    """Checks a decoded value, which begins with the number of its format from format 2 on.

    Raises: NewerFormat.
    """
    if type(value) is list and value and type(value[0]) is int and value[0] > FORMAT:
        raise NewerFormat
