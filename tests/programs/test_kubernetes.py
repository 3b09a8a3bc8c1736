"""Tests that the manifests in `deploy/kubernetes` conform to the APIs of Kubernetes and operators.

TypeScript compares each object with the types of its kind, and also finds fields that do not exist.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.deploy.manifests import COMPONENTS, OVERLAYS, Manifest, missing, rendered
from tests.node import WEB_TESTS
from tests.programs.running import HERE
from tests.system import run_command

OPERATORS = {
    "keda.sh": "@kubernetes-models/keda",
    "monitoring.coreos.com": "@kubernetes-models/prometheus-operator",
}
TSC = WEB_TESTS / "node_modules/.bin/tsc"
OPTIONS = ("--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext", "--target", "es2022")


def typescript(manifests: list[Manifest]) -> str:
    """Returns a module that gives each object the type of its kind."""
    lines = {}
    for number, each in enumerate(manifests):
        kind, version = each["kind"], each["apiVersion"]
        package = OPERATORS.get(version.split("/")[0], "kubernetes-models")
        lines[kind] = f'import type {{ I{kind} }} from "{package}/{version}/{kind}"'
        lines[str(number)] = f"export const o{number}: I{kind} = {json.dumps(each)}"
    return "\n".join(sorted(lines.values(), reverse=True))


async def checked(manifests: list[Manifest], folder: Path) -> str:
    (folder / "node_modules").symlink_to(HERE / "node_modules")
    (folder / "objects.ts").write_text(typescript(manifests))
    return await run_command(str(TSC), *OPTIONS, "objects.ts", cwd=folder)


@pytest.mark.skipif(bool(missing()), reason=missing() or "never")
@pytest.mark.parametrize("overlay", OVERLAYS)
async def test_the_objects_have_only_fields_of_their_kinds(overlay: str, tmp_path: Path) -> None:
    assert "" == await checked(rendered(overlay, COMPONENTS), tmp_path)


@pytest.mark.skipif(bool(missing()), reason=missing() or "never")
@pytest.mark.parametrize(
    "kind", ["Deployment", "NetworkPolicy", "ScaledObject", "PodMonitor", "PrometheusRule"]
)
async def test_a_field_that_does_not_exist_is_found(kind: str, tmp_path: Path) -> None:
    manifests = [each for each in rendered("production", COMPONENTS) if each["kind"] == kind]
    manifests = [each | {"spec": each["spec"] | {"replica": 2}} for each in manifests]
    with pytest.raises(AssertionError, match="'\"replica\"' does not exist"):
        await checked(manifests, tmp_path)
