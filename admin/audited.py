"""Records each change that an operator command makes in the audit log.

The entry is written before the change. If it cannot be written, the change is not made. See
docs/decisions/audit-before-change.md.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import socket
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from jobs.audit import AuditLog, new_change, shortened
from jobs.config import settings as env
from jobs.config import shared_config
from jobs.errors import HoldlineError, RedisTrouble
from jobs.redis.url import redis_from_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

REDIS: Final = "redis"
STDERR: Final = "stderr"
DEADLINE_SECONDS: Final = 4.0


class NotAudited(HoldlineError):
    """The audit log cannot be written, so the change was not made."""


@dataclass(slots=True)
class Outcome:
    """The result of a change, which the body of `Audit.change` may describe in `after`."""

    after: str


@dataclass(frozen=True, slots=True)
class Audit:
    """Where and by whom changes are recorded. `place` is "redis", "stderr" or "both"."""

    redis_url: str
    place: str
    retention_ms: int
    operator: str

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Audit:
        """Reads the settings of the audit log. Raises: ConfigError."""
        env.check_names(environ)
        return cls(
            redis_url=shared_config.redis_url(environ),
            place=env.text(environ, "HOLDLINE_AUDIT"),
            retention_ms=env.milliseconds(environ, "HOLDLINE_AUDIT_RETENTION_SECONDS"),
            operator=env.text(environ, "HOLDLINE_OPERATOR"),
        )

    @contextlib.asynccontextmanager
    async def change(
        self, command: str, target: str, *, before: str = "", after: str = ""
    ) -> AsyncIterator[Outcome]:
        """Records a change around the body that makes it. No argument may contain a secret.

        `before` and `after` describe the target in short. The body may replace `after`, for example
        by the number of deleted records.

        Raises: NotAudited, before the body runs.
        """
        id_, outcome = new_change(), Outcome(after)
        async with contextlib.AsyncExitStack() as stack:
            log = None
            if self.place != STDERR:
                pipe = redis_from_url(self.redis_url).pipe(deadline=DEADLINE_SECONDS)
                log = AuditLog(await stack.enter_async_context(pipe), self.retention_ms)
            try:
                await self._append(
                    log,
                    {
                        "change": id_,
                        "command": command,
                        "target": target,
                        "operator": self.operator,
                        "user": _user(),
                        "host": socket.gethostname(),
                        "before": before,
                        "after": after,
                    },
                )
            except RedisTrouble as error:
                raise NotAudited(
                    f"nothing was changed, because the audit log cannot be written: {error}"
                ) from error
            result = "done"
            try:
                yield outcome
            except BaseException as error:
                result = f"failed: {type(error).__name__}"
                raise
            finally:
                ended = {"change": id_, "after": outcome.after, "result": result}
                try:
                    await self._append(log, ended)
                except RedisTrouble as error:
                    sys.stderr.write(f"{command}: the audit log lacks the result: {error}\n")

    async def _append(self, log: AuditLog | None, entry: Mapping[str, str]) -> None:
        if log is not None:
            await log.append(entry)
        if self.place != REDIS:
            time = datetime.now(UTC).isoformat(timespec="milliseconds")
            values = {name: shortened(value) for name, value in entry.items()}
            sys.stderr.write(json.dumps({"time": time, **values}) + "\n")


def _user() -> str:
    """Returns the name of the system's user, which the environment cannot change."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # the user has no name, as in some containers
        return str(os.getuid())
