"""Tests the manifests in `deploy/kubernetes` against Kubernetes' rules and real processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml  # type: ignore[import-untyped]

from command.up.redis import embedded_redis_sync
from dev.prometheus_rule import prometheus_rule
from jobs.config.settings import check_names, number
from jobs.config.settings_table import SETTINGS
from tests.deploy.installation import no_namespaces
from tests.deploy.manifests import (
    COMPONENTS,
    KUBERNETES,
    OVERLAYS,
    RENDERED,
    Manifest,
    environ_of,
    missing,
    of_kind,
    pod_of,
    rendered,
)
from tests.deploy.pod import REDIS_FOLDER, running_container
from tests.system import ROOT, Process, System, free_port, start_process, wait_until

pytestmark = [
    pytest.mark.skipif(bool(missing()), reason=missing() or "never"),
    # A start takes seconds of processor time, on cores that are shared with other tests.
    pytest.mark.timeout(180),
]
# A process ends at most this long after its shutdown delay and grace period.
STOP_SECONDS = 12
PROGRAMS = {"holdline-server": "server", "holdline-worker": "worker"}
KINDS = {
    "hpa": {"HorizontalPodAutoscaler"},
    "keda": {"ScaledObject"},
    "monitoring": {"PodMonitor", "PrometheusRule"},
}

each_overlay = pytest.mark.parametrize("overlay", OVERLAYS)
each_program = pytest.mark.parametrize("name", PROGRAMS)


def deployments(overlay: str) -> Iterator[tuple[str, Manifest]]:
    yield from of_kind(rendered(overlay), "Deployment").items()


@pytest.mark.parametrize(("overlay", "components"), RENDERED)
def test_an_overlay_with_components_has_their_objects(
    overlay: str, components: tuple[str, ...]
) -> None:
    added = {each["kind"] for each in rendered(overlay, components)}
    added -= {each["kind"] for each in rendered(overlay)}
    assert added == {kind for component in components for kind in KINDS[component]}


@each_overlay
def test_every_object_is_in_the_namespace(overlay: str) -> None:
    for each in rendered(overlay, COMPONENTS):
        if each["kind"] == "Namespace":
            assert "holdline" == each["metadata"]["name"]
        else:
            assert "holdline" == each["metadata"]["namespace"], each["metadata"]["name"]


@each_overlay
def test_every_variable_of_holdline_is_a_setting(overlay: str) -> None:
    for name, deployment in deployments(overlay):
        environ = environ_of(rendered(overlay), deployment)
        check_names(environ)
        assert (name in PROGRAMS) == bool(environ)
        assert set() == environ.keys() - SETTINGS.keys()


@each_overlay
@each_program
def test_a_pod_has_the_time_to_stop(overlay: str, name: str) -> None:
    deployment = of_kind(rendered(overlay), "Deployment")[name]
    environ = environ_of(rendered(overlay), deployment)
    needed = STOP_SECONDS + sum(
        number(environ, f"HOLDLINE_SHUTDOWN_{each}_SECONDS") for each in ("DELAY", "GRACE")
    )
    assert needed <= pod_of(deployment)["terminationGracePeriodSeconds"]


@each_overlay
def test_every_pod_fulfils_the_restricted_standard(overlay: str) -> None:
    """The profile `restricted` of the Pod Security Standards, which the namespace enforces."""
    [namespace] = of_kind(rendered(overlay), "Namespace").values()
    labels = namespace["metadata"]["labels"]
    assert "restricted" == labels["pod-security.kubernetes.io/enforce"]
    for _, deployment in deployments(overlay):
        pod = pod_of(deployment)
        assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers"} & pod.keys()
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert "RuntimeDefault" == pod["securityContext"]["seccompProfile"]["type"]
        for volume in pod["volumes"]:
            assert volume.keys() - {"name"} < {"configMap", "secret", "emptyDir"}
        for container in pod["containers"]:
            context = container["securityContext"]
            assert {"drop": ["ALL"]} == context["capabilities"]
            assert context["allowPrivilegeEscalation"] is False
            assert not {"privileged", "runAsUser", "procMount"} & context.keys()
            assert all("hostPort" not in port for port in container["ports"])
            # More than the standard.
            assert context["readOnlyRootFilesystem"] is True
            assert {"requests", "limits"} <= container["resources"].keys()
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False


@each_overlay
def test_the_image_is_of_this_version(overlay: str) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for name, deployment in deployments(overlay):
        [container] = pod_of(deployment)["containers"]
        if name in PROGRAMS:
            assert f"holdline:{version}" == container["image"]
            assert [PROGRAMS[name]] == container["args"]


def test_a_user_changes_the_image_and_the_settings_in_one_place() -> None:
    more = """
images:
  - name: holdline
    newName: registry.example/team/holdline
configMapGenerator:
  - name: holdline
    namespace: holdline
    behavior: merge
    literals: [HOLDLINE_MODELS=/etc/holdline/models.toml]
  - name: holdline-files
    namespace: holdline
    literals: ["models.toml=default = \\"a\\""]
"""
    manifests = rendered("production", (), more)
    files = next(name for name in of_kind(manifests, "ConfigMap") if "files" in name)
    for deployment in of_kind(manifests, "Deployment").values():
        pod = pod_of(deployment)
        assert pod["containers"][0]["image"].startswith("registry.example/team/holdline:")
        environ = environ_of(manifests, deployment)
        assert "/etc/holdline/models.toml" == environ["HOLDLINE_MODELS"]
        assert "gpt-4.1-mini" == environ["HOLDLINE_MODEL"]
        assert files in [volume.get("configMap", {}).get("name") for volume in pod["volumes"]]


def test_an_autoscaler_owns_the_number_of_its_pods() -> None:
    for components in ((), *((each,) for each in COMPONENTS), COMPONENTS):
        manifests = rendered("production", components)
        owners = [
            each["spec"]["scaleTargetRef"]["name"]
            for kind in ("HorizontalPodAutoscaler", "ScaledObject")
            for each in of_kind(manifests, kind).values()
        ]
        assert len(owners) == len(set(owners))
        for name, deployment in of_kind(manifests, "Deployment").items():
            assert (name in owners) == ("replicas" not in deployment["spec"])


@each_overlay
def test_selectors_select_the_pods_that_they_mean(overlay: str) -> None:
    manifests = rendered(overlay, COMPONENTS)
    pods = {
        name: each["spec"]["template"]["metadata"]["labels"]
        for name, each in of_kind(manifests, "Deployment").items()
    }
    for kind in ("Service", "PodDisruptionBudget", "PodMonitor", "Deployment"):
        for name, each in of_kind(manifests, kind).items():
            selector = each["spec"]["selector"]
            labels = selector.get("matchLabels", selector).items()
            assert [name] == [pod for pod, has in pods.items() if labels <= has.items()]


def named_port(deployment: Manifest, port: int | str) -> int:
    """Returns the number of a port of the only container."""
    [container] = pod_of(deployment)["containers"]
    numbers = {each["name"]: each["containerPort"] for each in container["ports"]}
    return numbers[port] if isinstance(port, str) else port


# Network policies

CLIENTS, METRICS = {"holdline/clients": "allowed"}, {"holdline/metrics": "allowed"}
OUTSIDE, METADATA = "93.184.216.34", "169.254.169.254"


def admits(manifests: list[Manifest], name: str, namespace: dict[str, str], port: int) -> bool:
    """Returns True if the policies admit a connection from a namespace to a port of a pod."""
    deployment = of_kind(manifests, "Deployment")[name]
    return any(
        any(
            namespace.items() >= peer["namespaceSelector"]["matchLabels"].items()
            for peer in rule["from"]
            if "namespaceSelector" in peer
        )
        and port in [named_port(deployment, each["port"]) for each in rule["ports"]]
        for policy in policies_of(manifests, deployment)
        for rule in policy.get("ingress", [])
    )


def lets_out(manifests: list[Manifest], name: str, address: str, port: int) -> bool:
    """Returns True if the policies let a pod connect to an address outside of the cluster."""
    deployment = of_kind(manifests, "Deployment")[name]
    return any(
        port in [each["port"] for each in rule["ports"]]
        and (
            "to" not in rule
            or any(
                peer["ipBlock"]["cidr"] == "0.0.0.0/0"
                and not any(
                    address.startswith(each.split(".0.0/")[0]) for each in peer["ipBlock"]["except"]
                )
                for peer in rule["to"]
            )
        )
        for policy in policies_of(manifests, deployment)
        for rule in policy.get("egress", [])
    )


def policies_of(manifests: list[Manifest], deployment: Manifest) -> list[Manifest]:
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()
    found = [
        each["spec"]
        for each in of_kind(manifests, "NetworkPolicy").values()
        if each["spec"]["podSelector"]["matchLabels"].items() <= labels
    ]
    assert any({"Ingress", "Egress"} == set(each["policyTypes"]) for each in found)
    return found


@each_overlay
def test_the_network_policies_allow_what_is_used_and_nothing_else(overlay: str) -> None:
    manifests = rendered(overlay)
    server, worker = PROGRAMS
    for name, port, by_clients in ((server, 8080, True), (worker, 9100, False)):
        assert by_clients == admits(manifests, name, CLIENTS, port)
        assert admits(manifests, name, METRICS, port)
        assert not admits(manifests, name, {}, port)
        assert not admits(manifests, name, CLIENTS | METRICS, 22)
        for used in (53, 6379):
            assert lets_out(manifests, name, OUTSIDE, used)
        assert not lets_out(manifests, name, OUTSIDE, 80)
        assert not lets_out(manifests, name, METADATA, 443)
    assert lets_out(manifests, worker, OUTSIDE, 443)
    assert not lets_out(manifests, server, OUTSIDE, 443)


# Real processes


async def status_of(port: int, path: str) -> int:
    try:
        async with aiohttp.ClientSession() as http:
            url, limit = f"http://127.0.0.1:{port}{path}", aiohttp.ClientTimeout(8)
            async with http.get(url, timeout=limit) as response:
                return response.status
    except aiohttp.ClientError:
        return 0


# What the kubelet would set without `enableServiceLinks: false`, for Services named as those here.
INJECTED = {
    f"{prefix}_{name}": value
    for prefix, port in (("HOLDLINE", 8080), ("HOLDLINE_SERVER", 8080), ("HOLDLINE_WORKER", 9100))
    for name, value in {
        "SERVICE_HOST": "10.96.0.7",
        "SERVICE_PORT": str(port),
        "SERVICE_PORT_HTTP": str(port),
        "PORT": f"tcp://10.96.0.7:{port}",
        f"PORT_{port}_TCP": f"tcp://10.96.0.7:{port}",
        f"PORT_{port}_TCP_PROTO": "tcp",
        f"PORT_{port}_TCP_PORT": str(port),
        f"PORT_{port}_TCP_ADDR": "10.96.0.7",
    }.items()
}


@pytest.mark.parametrize("injected", [{}, INJECTED], ids=["", "service-links"])
@each_program
async def test_a_pod_starts_with_the_environment_of_its_manifest(
    name: str, injected: dict[str, str], redis_url: str, tmp_path: Path
) -> None:
    """Only the port differs, because a test cannot choose it, and the Secrets have test values."""
    manifests = rendered("production")
    deployment = of_kind(manifests, "Deployment")[name]
    [container] = pod_of(deployment)["containers"]
    secrets = {"REDIS_URL": redis_url, "OPENAI_API_KEY": "test"}
    environ = injected | environ_of(manifests, deployment) | secrets
    setting = "HOLDLINE_PORT" if name == "holdline-server" else "HOLDLINE_WORKER_PORT"
    assert int(environ[setting]) == named_port(deployment, container["ports"][0]["name"])
    port = free_port()
    environ[setting] = str(port)
    command = [sys.executable, "-m", "command", *container["args"]]
    process = start_process(Process, name, command, tmp_path / "log", environ, ROOT)
    try:
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            found = container[probe]["httpGet"]
            assert container["ports"][0]["name"] == found["port"]

            async def succeeds(path: str = found["path"]) -> bool:
                assert process.popen.poll() is None, process.output
                return await status_of(port, path) == 200

            await wait_until(succeeds, 60)
        assert 200 == await status_of(port, "/metrics")
        process.popen.terminate()

        async def draining() -> bool:
            return await status_of(port, "/readyz") == 503 or process.popen.poll() is not None

        await wait_until(draining, 10)
        process.popen.terminate()  # skips the rest of the shutdown delay
        assert 0 == await process.wait(30), process.output
    finally:
        process.popen.kill()


# Monitoring


def test_the_rule_object_contains_the_rules_of_prometheus() -> None:
    path = KUBERNETES / "components/monitoring/prometheus-rule.yaml"
    assert prometheus_rule() == path.read_text(), "run python -m dev.prometheus_rule"
    rules = yaml.safe_load((ROOT / "deploy/prometheus/rules.yml").read_text())
    assert rules == yaml.safe_load(path.read_text())["spec"]


def test_the_monitors_give_targets_the_jobs_of_the_alerts() -> None:
    manifests = rendered("production", ("monitoring",))
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    expected = {each["job_name"] for each in config["scrape_configs"]}
    for name, monitor in of_kind(manifests, "PodMonitor").items():
        [endpoint] = monitor["spec"]["podMetricsEndpoints"]
        assert [{"targetLabel": "job", "replacement": name}] == endpoint["relabelings"]
        named_port(of_kind(manifests, "Deployment")[name], endpoint["port"])
    assert expected == of_kind(manifests, "PodMonitor").keys()


def trigger() -> dict[str, Any]:
    [scaled] = of_kind(rendered("production", ("keda",)), "ScaledObject").values()
    [found] = scaled["spec"]["triggers"]
    metadata: dict[str, Any] = found["metadata"]
    return metadata


def test_the_trigger_leaves_workers_room() -> None:
    manifests = rendered("production")
    environ = environ_of(manifests, of_kind(manifests, "Deployment")["holdline-worker"])
    assert 2 * int(trigger()["threshold"]) == number(environ, "HOLDLINE_CONCURRENCY")


@pytest.mark.heavy
@pytest.mark.skipif(not shutil.which("prometheus"), reason="prometheus is not installed")
async def test_the_trigger_counts_the_jobs_of_real_servers(system: System, tmp_path: Path) -> None:
    """Two servers report the same queue, whose jobs count only once."""
    servers = [await system.server(), await system.server()]
    async with aiohttp.ClientSession() as http:
        for _ in range(3):
            body = {"input": "hi", "background": True}
            async with http.post(f"{servers[0].url}/v1/responses", json=body) as response:
                assert 200 == response.status
        targets = [server.url.removeprefix("http://") for server in servers]
        jobs = [{"targets": targets, "labels": {"namespace": "holdline"}}]
        jobs += [{"targets": targets[:1], "labels": {"namespace": "another"}}]
        config = {
            "global": {"scrape_interval": "1s"},
            "scrape_configs": [{"job_name": "holdline-server", "static_configs": jobs}],
        }
        (tmp_path / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
        url = f"http://127.0.0.1:{free_port()}"
        command = [
            "prometheus",
            f"--config.file={tmp_path / 'prometheus.yml'}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address={url.removeprefix('http://')}",
        ]
        process = start_process(Process, "prometheus", command, tmp_path / "log", {}, tmp_path)

        async def value(query: str) -> list[float]:
            assert process.popen.poll() is None, process.output
            try:
                async with http.get(f"{url}/api/v1/query", params={"query": query}) as response:
                    found = await response.json()
            except aiohttp.ClientError:
                return []
            results = found.get("data", {}).get("result", [])
            return [float(each["value"][1]) for each in results]

        async def counted() -> bool:
            return len(await value("up == 1")) == 3 and await value(trigger()["query"]) == [3]

        try:
            await wait_until(counted, 60)
        finally:
            await process.kill()


def test_the_upgrade_replaces_the_workers_before_the_servers() -> None:
    """The command of the documentation selects objects by a label."""
    document = (ROOT / "docs/install-kubernetes.md").read_text()
    [(label, excluded)] = re.findall(r"-l (\S+)!=(\S+)", document)
    kept = {
        (each["kind"], each["metadata"]["name"])
        for each in rendered("production")
        if each["metadata"].get("labels", {}).get(label) != excluded
    }
    assert ("Deployment", "holdline-worker") in kept
    assert ("Deployment", "holdline-server") not in kept
    assert any("ConfigMap" == kind for kind, _ in kept)


def test_the_documentation_names_only_files_that_exist() -> None:
    document = (ROOT / "docs/install-kubernetes.md").read_text()
    paths = re.findall(r"deploy/kubernetes/[\w./-]*\w", document)
    assert paths
    for path in paths:
        assert (ROOT / path).exists() or path.startswith("deploy/kubernetes/overlays/mine"), path


@pytest.mark.heavy
@pytest.mark.skipif(bool(no_namespaces()), reason=no_namespaces() or "never")
@pytest.mark.parametrize("processes", ["1", "2"])
@each_program
async def test_a_pod_runs_without_rights(name: str, processes: str, tmp_path: Path) -> None:
    """Runs the container with its environment, ports, user, read-only root and volumes."""
    manifests = rendered("production")
    deployment = of_kind(manifests, "Deployment")[name]
    [found] = pod_of(deployment)["containers"]
    port = named_port(deployment, found["ports"][0]["name"])
    with embedded_redis_sync(None, "--unixsocketperm", "777") as url:
        redis = Path(url.removeprefix("unix://"))
        redis.parent.chmod(0o755)
        environ = environ_of(manifests, deployment) | {
            "REDIS_URL": f"unix://{REDIS_FOLDER}/{redis.name}",
            "OPENAI_API_KEY": "test",
            "HOLDLINE_PROCESSES": processes,
        }
        with running_container(deployment, environ, redis.parent, tmp_path) as running:
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                path = found[probe]["httpGet"]["path"]

                def succeeds(path: str = path) -> bool:
                    assert running.popen.poll() is None, running.output
                    return running.gets(port, path)

                await wait_until(succeeds, 90)
            status = Path(f"/proc/{running.pid}/status").read_text()
            assert re.search(r"^Uid:\s10001\s10001\s10001\s10001$", status, re.MULTILINE)
            assert re.search(r"^CapEff:\s0+$", status, re.MULTILINE)
            written = running.inside("touch", "/opt/holdline/file", "/etc/file", "/file")
            assert 3 == written.stderr.count("Read-only file system"), written.stderr
            assert processes == "2" or "" == running.inside("ls", "-A", "/tmp").stdout
            # The first process of a container. The second signal skips the shutdown delay.
            # A worker without jobs has already ended.
            for _ in range(2):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(running.pid, signal.SIGTERM)
                await asyncio.sleep(0.5)  # signals of the same kind would count once
            assert 0 == await running.wait(40), running.output
