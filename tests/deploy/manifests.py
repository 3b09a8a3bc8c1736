"""Renders the manifests in `deploy/kubernetes`, as `kubectl apply -k` does."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from tests.system import ROOT

KUBERNETES = ROOT / "deploy/kubernetes"
OVERLAYS = ("development", "production")
COMPONENTS = ("hpa", "keda", "monitoring")
# Every overlay alone, with each component, and with all of them.
RENDERED = [
    (overlay, components)
    for overlay in OVERLAYS
    for components in ((), *((each,) for each in COMPONENTS), COMPONENTS)
]
Manifest = dict[str, Any]


@functools.cache
def missing() -> str:
    """Returns the reason why nothing can be rendered, or ""."""
    if not shutil.which("kubectl"):
        return "kubectl is not installed"
    command = ["kubectl", "version", "--client", "--output=json"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    # Older versions, such as the one of Debian 12, have no components.
    version = json.loads(found.stdout or "{}").get("kustomizeVersion", "v0")
    return "" if int(version.lstrip("v").split(".")[0]) >= 5 else "kubectl is older than 1.27"


@functools.cache
def rendered(overlay: str, components: tuple[str, ...] = (), more: str = "") -> list[Manifest]:
    """Returns the objects of an overlay with components.

    `more` is added to the end of the kustomization of an installation that uses the overlay.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "kubernetes"
        shutil.copytree(KUBERNETES, copy)
        installation = copy / "overlays/installation"
        installation.mkdir()
        written = f"resources: [../{overlay}]\ncomponents:\n"
        written += "".join(f"  - ../../components/{each}\n" for each in components) or "  []\n"
        (installation / "kustomization.yaml").write_text(written + more)
        done = subprocess.run(
            ["kubectl", "kustomize", installation],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (0, "") == (done.returncode, done.stderr)
    return list(yaml.safe_load_all(done.stdout))


def of_kind(manifests: list[Manifest], kind: str) -> dict[str, Manifest]:
    """Returns the objects of a kind by name."""
    return {each["metadata"]["name"]: each for each in manifests if each["kind"] == kind}


def pod_of(deployment: Manifest) -> Manifest:
    """Returns the spec of a Deployment's pods."""
    spec: Manifest = deployment["spec"]["template"]["spec"]
    return spec


def environ_of(manifests: list[Manifest], deployment: Manifest) -> dict[str, str]:
    """Returns the variables of a container, without those of Secrets that are not rendered."""
    [container] = pod_of(deployment)["containers"]
    found: dict[str, str] = {}
    for source in container.get("envFrom", []):
        for reference, kind, field in (
            ("configMapRef", "ConfigMap", "data"),
            ("secretRef", "Secret", "stringData"),
        ):
            name = source.get(reference, {}).get("name")
            found |= of_kind(manifests, kind).get(name, {}).get(field, {})
    return found | {each["name"]: each["value"] for each in container.get("env", [])}
