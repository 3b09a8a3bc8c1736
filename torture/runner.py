"""Runs the cases against a target, one after the other."""

from __future__ import annotations

import asyncio
import fnmatch
import os
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from torture.case import Case, Weight
from torture.cases import all_cases
from torture.errors import Broken, PaidTwice, StartError, TargetError, UsageError
from torture.model.server import Model
from torture.placeholders import Placeholders
from torture.redaction import secrets_in
from torture.result import Report, Result, Verdict
from torture.system import System
from torture.target import Claim, Target
from torture.trial import Trial


@dataclass(frozen=True)
class Plan:
    """A case of a run.

    Attributes:
        claim: the promise that the case tests, or None if the target does not claim the case.
        missing: the needs of the case that the target does not meet.
    """

    case: Case
    claim: Claim | None
    missing: frozenset[str]


def plan(target: Target, globs: Sequence[str] = ()) -> list[Plan]:
    """Returns the cases that match one of the patterns, or all, with the target's claims.

    Raises:
        TargetError: a claim names no case, or one that the target cannot have.
        UsageError: a pattern matches no case.
    """
    cases = all_cases()
    for number, claim in enumerate(target.claims, 1):
        key = f"claim[{number}].cases"
        for name in claim.cases:
            found = [one for one in cases if matches(one.id, name)]
            if not found:
                raise TargetError(target.path, claim.line, key, f"no case is {name!r}")
            if len(found) == 1 and (missing := found[0].needs - target.offers):
                needs = ", ".join(sorted(missing))
                reason = f"{name!r} needs what the target does not offer: {needs}"
                raise TargetError(target.path, claim.line, key, reason)
    for glob in globs:
        if not any(matches(one.id, glob) for one in cases):
            raise UsageError(f"no case matches {glob!r}; --list shows all")
    return [
        Plan(one, _claim_of(one, target), one.needs - target.offers)
        for one in cases
        if not globs or any(matches(one.id, glob) for glob in globs)
    ]


def matches(case_id: str, glob: str) -> bool:
    """Returns True if a pattern names a case: its id, its group, or a pattern with `*`."""
    return fnmatch.fnmatchcase(case_id, glob) or case_id.startswith(f"{glob}.")


def _claim_of(case: Case, target: Target) -> Claim | None:
    for claim in target.claims:
        if any(matches(case.id, name) for name in claim.cases):
            return claim
    return None


class Runner:
    """Runs a plan. `watch` receives each case when it begins, and its result."""

    def __init__(
        self,
        target: Target,
        seed: int,
        install: Path,
        *,
        run_all: bool = False,
        watch: Callable[[Case, Result | None], None] = lambda _case, _result: None,
    ) -> None:
        self._target = target
        self._seed = seed
        self._install = install
        self._run_all = run_all
        self._watch = watch

    async def run(self, plans: Sequence[Plan]) -> Report:
        """Installs and starts the target, runs the cases, and stops it.

        Raises:
            StartError: the target cannot be installed or started.
        """
        began = datetime.now(UTC)
        folder = Path(tempfile.mkdtemp(prefix="torture-"))
        placeholders = Placeholders(
            folder, self._target.path.parent, self._install, self._target.parameters
        )
        try:
            # A missing key ends the run here, instead of failing each case.
            target = self._target
            headers = {name: placeholders.fill(value) for name, value in target.headers.items()}
            keys = {placeholders.fill(target.api_key), *secrets_in(headers)}
            placeholders.redactor.add(*keys, *secrets_in(os.environ))
            async with Model(self._seed, self._target.model_port) as model:
                placeholders.model_url = model.url
                system = System(self._target, placeholders)
                await system.install()
                version = await system.version()
                try:
                    results = [await self._result(one, system, model) for one in plans]
                finally:
                    await system.stop()
        except StartError as error:
            raise StartError(placeholders.redactor(str(error))) from None
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return Report(self._target, version, self._seed, began, results)

    async def _result(self, plan: Plan, system: System, model: Model) -> Result:
        result = Result(plan.case, Verdict.PASSED, plan.claim, plan.case.weight)
        if plan.claim or self._run_all:
            if plan.missing:
                result.verdict = Verdict.IMPOSSIBLE
                result.reason = "the target does not offer: " + ", ".join(sorted(plan.missing))
            else:
                self._watch(plan.case, None)
                await self._try(result, system, model)
            if plan.claim is None:
                result.if_claimed = result.verdict
        if plan.claim is None:
            result.verdict = Verdict.NOT_CLAIMED
        self._watch(plan.case, result)
        return result

    async def _try(self, result: Result, system: System, model: Model) -> None:
        """Runs a case, and stores its verdict and its details in the result."""
        case = result.case
        began = time.monotonic()
        try:
            await _ready(system)
            system.mark_output()
            async with Trial(system, model, self._seed, case.id) as trial:
                result.timeline = trial.timeline
                target = system.target
                limit = case.deadline * target.time_factor + target.limits.recovery_seconds
                try:
                    async with asyncio.timeout(limit):
                        await case.run(trial)
                except TimeoutError:
                    raise Broken(f"the case did not end within {limit:g} s") from None
                finally:
                    result.calls = [len(trial.calls(prompt)) for prompt in trial.prompts]
        except Broken as error:
            result.verdict, result.reason = Verdict.FAILED, str(error)
            if isinstance(error, PaidTwice):
                result.weight = Weight.PAYS
        except StartError as error:
            if not system.started:
                raise  # no other case can run either
            result.verdict, result.reason = Verdict.ERROR, str(error)
        except Exception:  # noqa: BLE001 - one case must not end the run
            result.verdict, result.reason = Verdict.ERROR, traceback.format_exc()
        result.seconds = time.monotonic() - began
        if result.bad:
            redacted = system.placeholders.redactor
            result.reason = redacted(result.reason)
            result.timeline.redact(redacted)
            result.output = {
                name: [redacted(line) for line in lines] for name, lines in system.output().items()
            }


async def _ready(system: System) -> None:
    """Restores the system after the case before, or starts it again in a new folder."""
    if system.members and await system.healthy():
        return
    if system.members:
        try:
            await system.heal()
        except StartError:
            await system.stop()
            shutil.rmtree(system.placeholders.folder, ignore_errors=True)
        else:
            return
    await system.start()
