"""Tests that `deploy/compose.yaml` is valid, and that everything it names exists and works."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import check_jsonschema  # type: ignore[import-untyped]
import jsonschema
import pytest
import yaml  # type: ignore[import-untyped]
from yarl import URL

from command.root import SECTIONS
from command.up.redis import installed
from jobs.config.settings_table import SETTINGS
from server.__main__ import STOP_SECONDS as SERVER_STOP_SECONDS
from tests.deploy.compose import (
    DEPLOY,
    EXAMPLE,
    OURS,
    PASSWORDS,
    SERVICES,
    TEXT,
    VARIABLES,
    MissingValue,
    compose,
    seconds,
)
from tests.fake_model import FakeModel
from tests.paths.documents import blocks
from tests.system import (
    ROOT,
    Process,
    clean_environ,
    free_port,
    run_command,
    start_process,
    wait_until,
)
from worker.__main__ import STOP_SECONDS as WORKER_STOP_SECONDS

SCHEMA = Path(check_jsonschema.__file__).parent / "builtin_schemas/vendor/compose-spec.json"
CADDYFILE = DEPLOY / "compose/Caddyfile"


def test_the_file_conforms_to_the_compose_specification() -> None:
    schema = json.loads(SCHEMA.read_text())
    jsonschema.validate(compose(**PASSWORDS), schema)
    [override] = blocks((ROOT / "docs/install-container.md").read_text(), "yaml")
    jsonschema.validate(yaml.safe_load(override), schema)
    assert set(OURS) == set(yaml.safe_load(override)["services"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"services": {"worker": {"restarts": "always"}}}, schema)


def test_the_example_names_each_value_of_the_file_and_no_other() -> None:
    assert VARIABLES == set(EXAMPLE) | {"IMAGE"}


@pytest.mark.parametrize("name", PASSWORDS)
def test_without_a_password_compose_names_the_file_to_copy(name: str) -> None:
    with pytest.raises(MissingValue, match=r"copy deploy/\.env\.example to deploy/\.env"):
        compose(**{**PASSWORDS, name: ""})


def test_each_variable_is_a_setting() -> None:
    named = set(re.findall(r"HOLDLINE_\w+", TEXT)) | {*EXAMPLE}
    ours = {name for name in named if name.startswith("HOLDLINE_")}
    assert len(ours) > 5
    assert ours <= set(SETTINGS)
    for name, service in OURS.items():
        assert set(service["environment"]) <= set(SETTINGS), name


def test_each_command_exists() -> None:
    commands = {entry.name for part in SECTIONS.values() for entry in part}
    for name, service in OURS.items():
        assert service["command"][0] in commands, name
        check = service["healthcheck"]["test"]
        assert ["CMD", "holdline", "probe", *service["command"]] == check, name


def test_the_default_image_is_the_version_of_the_project() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert {f"holdline:{version}"} == {service["image"] for service in OURS.values()}
    assert {"server-1", "server-2", "worker"} == set(OURS)


def test_only_caddy_has_ports_and_shows_grafana_only_to_the_machine() -> None:
    assert ["caddy"] == [name for name, service in SERVICES.items() if "ports" in service]
    ports = [port.rsplit(":", 1) for port in SERVICES["caddy"]["ports"]]
    assert {"80": "80", "443": "443", "443/udp": "443", "3000": "127.0.0.1:3000"} == {
        inside: outside for outside, inside in ports
    }
    networks = compose(**PASSWORDS)["networks"]
    for name in ("valkey", "prometheus", "grafana"):
        assert all(networks[one]["internal"] for one in SERVICES[name]["networks"]), name
    # Only servers and workers reach Valkey.
    assert {*OURS, "valkey"} == {
        name for name, service in SERVICES.items() if "data" in service["networks"]
    }


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_is_confined_checked_and_restarted(name: str) -> None:
    service = SERVICES[name]
    assert "unless-stopped" == service["restart"]
    assert service["read_only"] is True
    assert ["ALL"] == service["cap_drop"]
    assert ["no-new-privileges:true"] == service["security_opt"]
    limits = service["deploy"]["resources"]["limits"]
    assert {"cpus", "memory"} <= set(limits)
    check = service["healthcheck"]
    assert seconds(check["timeout"]) <= seconds(check["interval"])
    assert seconds(service["stop_grace_period"]) >= 10
    for other, how in service.get("depends_on", {}).items():
        assert "service_healthy" == how["condition"]
        assert other in SERVICES


def test_compose_waits_for_a_process_to_stop_before_it_kills_it() -> None:
    stops = {"server": SERVER_STOP_SECONDS, "worker": WORKER_STOP_SECONDS}
    for name, service in OURS.items():
        environ = service["environment"]
        longest = (
            int(environ["HOLDLINE_SHUTDOWN_GRACE_SECONDS"])
            + int(environ.get("HOLDLINE_SHUTDOWN_DELAY_SECONDS", "0"))
            + stops[service["command"][0]]
        )
        assert seconds(service["stop_grace_period"]) >= longest, name


def test_each_mounted_file_exists() -> None:
    volumes = compose(**PASSWORDS)["volumes"]
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source, target, *options = volume.split(":")
            assert target.startswith("/")
            if source.startswith("."):
                assert (DEPLOY / source).exists(), source
                assert ["ro"] == options, source
            else:
                assert source in volumes


def mounted(service: str, target: str) -> Path:
    """Returns the file of this checkout that a service sees as `target`."""
    for volume in SERVICES[service]["volumes"]:
        source, place, *_ = volume.split(":")
        if source.startswith(".") and target.startswith(place):
            return Path(f"{(DEPLOY / source).resolve()}{target.removeprefix(place)}")
    raise AssertionError(target)


def test_grafana_finds_its_dashboards_and_prometheus() -> None:
    provisioning = "/etc/grafana/provisioning"
    [source] = load(mounted("grafana", f"{provisioning}/datasources/prometheus.yml"))["datasources"]
    assert "prometheus" == source["type"]  # the type that the dashboards choose
    assert "http://prometheus:9090" == source["url"]
    [provider] = load(mounted("grafana", f"{provisioning}/dashboards/holdline.yml"))["providers"]
    folder = mounted("grafana", provider["options"]["path"])
    assert DEPLOY / "grafana" == folder
    for path in folder.glob("*.json"):
        [variable] = json.loads(path.read_text())["templating"]["list"]
        assert source["type"] == variable["query"]


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def test_promtool_accepts_the_configuration_as_it_is_mounted(tmp_path: Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed; it belongs to the package prometheus")
    for name in ("prometheus.yml", "rules.yml"):
        shutil.copyfile(mounted("prometheus", f"/etc/prometheus/{name}"), tmp_path / name)
    command = ["promtool", "check", "config", str(tmp_path / "prometheus.yml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert 0 == done.returncode, done.stdout + done.stderr
    assert re.search(r"SUCCESS: \d\d rules found", done.stdout)

    ours, deployed = load(tmp_path / "prometheus.yml"), load(DEPLOY / "prometheus/prometheus.yml")
    # The rules select the samples by the names of the jobs.
    names = [[job["job_name"] for job in config["scrape_configs"]] for config in (ours, deployed)]
    assert names[0] == names[1]
    servers, workers = ours["scrape_configs"]
    targets = servers["static_configs"][0]["targets"]
    assert {name for name in OURS if name != "worker"} == {name.split(":")[0] for name in targets}
    assert ["worker"] == workers["dns_sd_configs"][0]["names"]
    assert {**ours, "scrape_configs": 0} == {**deployed, "scrape_configs": 0}


def adapted(path: Path, **environ: str) -> Any:
    """Returns the configuration that Caddy reads from a file, and checks that it is valid."""
    if shutil.which("caddy") is None:
        pytest.skip("caddy is not installed")
    command = ["caddy", "adapt", "--config", str(path), "--adapter", "caddyfile", "--validate"]
    done = subprocess.run(
        command, env=clean_environ() | environ, capture_output=True, timeout=50, check=False
    )
    assert 0 == done.returncode, done.stderr.decode()
    return json.loads(done.stdout)


def proxies(config: Any) -> list[dict[str, Any]]:
    """Returns the settings of all reverse proxies in a configuration of Caddy."""
    match config:
        case {"handler": "reverse_proxy"}:
            return [config]
        case dict():
            return [found for each in config.values() for found in proxies(each)]
        case list():
            return [found for each in config for found in proxies(each)]
        case _:
            return []


def test_caddy_treats_the_servers_as_the_documented_proxy_does() -> None:
    documented, ours = adapted(DEPLOY / "Caddyfile"), adapted(CADDYFILE, SITE_ADDRESS="chat.test")
    [expected] = proxies(documented)
    grafana, servers = sorted(proxies(ours), key=lambda proxy: len(proxy["upstreams"]))
    assert [{"dial": f"{name}:8080"} for name in OURS if name != "worker"] == servers["upstreams"]
    assert {**expected, "upstreams": 0} == {**servers, "upstreams": 0}
    assert [{"dial": "grafana:3000"}] == grafana["upstreams"]
    assert ours["admin"] == documented["admin"]
    times = [
        {server.get("read_header_timeout") for server in config["apps"]["http"]["servers"].values()}
        for config in (ours, documented)
    ]
    assert times[0] == times[1]
    assert "max_size" in CADDYFILE.read_text()


def environment(service: str) -> dict[str, str]:
    """Returns the environment of a service: that of the image, and that of the service."""
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    image = dict(re.findall(r"\b(HOLDLINE_\w+)=(\S+)", dockerfile))
    assert image
    return {**image, **SERVICES[service]["environment"]}


@pytest.mark.timeout(120)
async def test_a_snapshot_is_restored_and_survives_a_restart(tmp_path: Path) -> None:
    """Runs the script in the place of the container, with the names of Valkey's programs."""
    if (client := shutil.which("valkey-cli") or shutil.which("redis-cli")) is None:
        pytest.skip("redis-cli is not installed; it belongs to the package redis-tools")
    programs, data = tmp_path / "programs", tmp_path / "data"
    for folder in (programs, data):
        folder.mkdir()
    server = str(installed(os.environ.get("PATH")).path)
    (programs / "valkey-cli").symlink_to(client)
    (programs / "valkey-server").symlink_to(server)
    environ = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "REDISCLI_AUTH": PASSWORDS["VALKEY_PASSWORD"],
    }
    command = [server, *SERVICES["valkey"]["command"][1:]]
    address = ["--port", "0", "--unixsocket", str(data / "sock"), "--dir", str(data)]

    async def run(*command: str) -> str:
        return await run_command(*command, cwd=data, environ=environ)

    async def cli(*arguments: str) -> str:
        return (await run("valkey-cli", "-s", "sock", "-e", *arguments)).strip()

    @contextlib.asynccontextmanager
    async def running() -> AsyncIterator[None]:
        log = tmp_path / f"{time.monotonic_ns()}.log"
        process = start_process(Process, "valkey", [*command, *address], log, {}, tmp_path)
        await wait_until(lambda: "eady to accept connections" in process.output)
        yield
        process.signal(signal.SIGTERM)
        assert 0 == await process.wait()

    async with running():
        await cli("SET", "kept", "before")
        await cli("--rdb", str(tmp_path / "snapshot.rdb"))
        await cli("SET", "kept", "after")
    await run("sh", str(DEPLOY / "compose/restore.sh"), str(tmp_path / "snapshot.rdb"))
    for _ in range(2):
        async with running():
            assert "before" == await cli("GET", "kept")


@pytest.mark.heavy
@pytest.mark.timeout(120)
async def test_the_services_answer_a_request(tmp_path: Path) -> None:
    """Runs the commands of the services on this machine, with other addresses only."""
    if shutil.which("caddy") is None:
        pytest.skip("caddy is not installed")
    ports = {
        name: str(free_port()) for name in ("server-1", "server-2", "worker", "valkey", "site")
    }
    redis = f"127.0.0.1:{ports['valkey']}"
    holdline = [sys.executable, "-m", "command"]

    def environ(service: str) -> dict[str, str]:
        given = environment(service)
        port = "HOLDLINE_WORKER_PORT" if service == "worker" else "HOLDLINE_PORT"
        return {
            **given,
            "REDIS_URL": given["REDIS_URL"].replace("valkey:6379", redis),
            port: ports[service],
        }

    def start(name: str, argv: list[str], environ: dict[str, str]) -> Process:
        process = start_process(Process, name, argv, tmp_path / f"{name}.log", environ, ROOT)
        stack.callback(process.popen.wait)
        stack.callback(process.popen.kill)
        return process

    caddyfile = CADDYFILE.read_text()
    for name in ("server-1", "server-2"):
        caddyfile = caddyfile.replace(f"{name}:8080", f"127.0.0.1:{ports[name]}")
    for port in (":3000 {", ":2020 {"):
        assert port in caddyfile
        caddyfile = caddyfile.replace(port, f":{free_port()} {{")
    (tmp_path / "Caddyfile").write_text(caddyfile)
    site = f"http://127.0.0.1:{ports['site']}"

    with contextlib.ExitStack() as stack:
        valkey = [str(installed(os.environ.get("PATH")).path), *SERVICES["valkey"]["command"][1:]]
        address = ["--port", ports["valkey"], "--bind", "127.0.0.1", "--dir", str(tmp_path)]
        database = start("valkey", [*valkey, *address], {})
        await wait_until(lambda: "eady to accept connections" in database.output)
        async with FakeModel() as model:
            for name in OURS:
                given = environ(name)
                if name == "worker":
                    given["OPENAI_BASE_URL"] = model.url
                start(name, [*holdline, *SERVICES[name]["command"]], given)
            caddy = ["caddy", "run", "--config", str(tmp_path / "Caddyfile")]
            home = {"HOME": str(tmp_path), "SITE_ADDRESS": site}
            start("caddy", [*caddy, "--adapter", "caddyfile"], home)
            for name, service in OURS.items():
                check = service["healthcheck"]["test"][2:]
                command = [*holdline, *check]

                async def healthy(name: str = name, command: list[str] = command) -> bool:
                    process = await asyncio.create_subprocess_exec(
                        *command,
                        env=clean_environ() | environ(name),
                        stderr=asyncio.subprocess.DEVNULL,
                    )
                    return 0 == await process.wait()

                await wait_until(healthy, 60)
            create = (*holdline, "keys", "create", "acme")
            created = await run_command(*create, environ=clean_environ() | environ("server-1"))
            key = re.findall(r"hl_\w+", created)[-1]
            headers = {"Authorization": f"Bearer {key}"}
            async with aiohttp.ClientSession(headers=headers) as http:

                async def answered() -> bool:
                    with contextlib.suppress(aiohttp.ClientConnectorError):
                        async with http.get(f"{site}/livez") as response:
                            return response.status == 200
                    return False

                await wait_until(answered)
                body = {"input": "tokens=3"}
                async with http.post(f"{site}/v1/responses", json=body) as response:
                    answer = await response.json()
                assert "completed" == answer["status"], answer
                assert EXAMPLE["HOLDLINE_MODEL"] == answer["model"]
                for path in ("/metrics", "//metrics", "/%6Detrics", "/healthz/service"):
                    async with http.get(URL(f"{site}{path}", encoded=True)) as response:
                        assert 404 == response.status, path
