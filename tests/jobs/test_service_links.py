"""Tests that variables which Kubernetes and Docker inject do no harm, and hide no typing error."""

from __future__ import annotations

import string
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.config import settings
from jobs.config.service_links import service_links
from jobs.config.settings import ConfigError
from jobs.config.settings_table import SETTINGS

ADDRESSES = ("10.96.0.7", "172.17.0.2", "fd00::1f")
PROTOCOLS = ("tcp", "udp", "sctp")


def variable(name: str) -> str:
    return name.upper().replace("-", "_")


def kubernetes(service: str, host: str, ports: list[tuple[int, str, str]], /) -> Mapping[str, str]:
    """Returns what the kubelet sets for a Service. A port is its number, protocol and name."""
    prefix, shown = variable(service), f"[{host}]" if ":" in host else host
    number, protocol, _ = ports[0]
    found = {
        f"{prefix}_SERVICE_HOST": host,
        f"{prefix}_SERVICE_PORT": str(number),
        f"{prefix}_PORT": f"{protocol}://{shown}:{number}",
    }
    for number, protocol, name in ports:
        if name:
            found[f"{prefix}_SERVICE_PORT_{variable(name)}"] = str(number)
        each = f"{prefix}_PORT_{number}_{protocol.upper()}"
        found[each] = f"{protocol}://{shown}:{number}"
        found |= {f"{each}_PROTO": protocol, f"{each}_PORT": str(number), f"{each}_ADDR": host}
    return found


def docker(alias: str, host: str, port: int) -> dict[str, str]:
    """Returns what `docker run --link` sets for a container."""
    each, address = f"{alias}_PORT_{port}_TCP", f"tcp://{host}:{port}"
    return {
        f"{alias}_NAME": "/web/holdline",
        f"{alias}_PORT": address,
        each: address,
        f"{each}_PROTO": "tcp",
        f"{each}_ADDR": host,
        f"{each}_PORT": str(port),
        f"{each}_START": address,
        f"{each}_PORT_START": str(port),
        f"{each}_END": address,
        f"{each}_PORT_END": str(port),
        f"{alias}_ENV_PATH": "/usr/bin",
        f"{alias}_ENV_HOLDLINE_PORT": "9000",
    }


labels = st.from_regex(r"[a-z]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
services = st.one_of(
    st.sampled_from(["holdline", "holdline-server", "holdline-worker", "holdline-port", "redis"]),
    labels.map("holdline-{}".format),
)
ports = st.lists(
    st.tuples(st.integers(1, 65_535), st.sampled_from(PROTOCOLS), st.just("") | labels),
    min_size=1,
    max_size=3,
)
clusters = st.lists(
    st.builds(kubernetes, services, st.sampled_from(ADDRESSES), ports), min_size=1, max_size=4
)


def merged(*environs: Mapping[str, str]) -> dict[str, str]:
    return {name: value for environ in environs for name, value in environ.items()}


@given(clusters)
def test_no_kubernetes_service_keeps_a_process_from_starting(
    found: list[Mapping[str, str]],
) -> None:
    environ = merged(*found)
    settings.check_names(environ)
    for name in ("HOLDLINE_PORT", "HOLDLINE_WORKER_PORT"):
        assert SETTINGS[name].default == settings.number(environ, name)


@given(clusters, st.sampled_from(["HOLDLINE_PORT", "HOLDLINE_WORKER_PORT"]))
def test_a_setting_of_the_user_wins_over_a_service_of_the_same_name(
    found: list[Mapping[str, str]], name: str
) -> None:
    environ = merged(*found, {name: "9100"})
    settings.check_names(environ)
    assert 9100 == settings.number(environ, name)
    assert name not in settings.ignored_links(environ)


# No Service can have such a name, because a label begins with a letter.
wrong_names = st.text(string.ascii_uppercase + "_", max_size=12).map("HOLDLINE_1{}".format)


@given(clusters, wrong_names)
def test_a_wrong_name_is_refused_beside_services(
    found: list[Mapping[str, str]], wrong: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{wrong} is not a setting"):
        settings.check_names(merged(*found, {wrong: "1"}))


def test_links_of_docker_are_ignored() -> None:
    environ = docker("HOLDLINE", "172.17.0.2", 8080) | docker("HOLDLINE_WORKER", "172.17.0.3", 9100)
    settings.check_names(environ)
    assert ["HOLDLINE_PORT", "HOLDLINE_WORKER_PORT"] == settings.ignored_links(environ)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HOLDLINE_SERVICE_PORT", "8080"),
        ("HOLDLINE_SERVICE_HOST", "0.0.0.0"),
        ("HOLDLINE_SERVER_PORT", "8080"),
        ("HOLDLINE_PORT_8080_TCP", "8080"),
        ("HOLDLINE_PORT_8080_TCP", "tcp://10.0.0.1:8081"),
        ("HOLDLINE_PORT_8080_TCP", "udp://10.0.0.1:8080"),
        ("HOLDLINE_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("HOLDLINE_NAME", "shop"),
        ("HOLDLINE_ENV_PATH", "/bin"),
    ],
)
def test_a_name_that_only_resembles_a_link_is_refused(name: str, value: str) -> None:
    assert frozenset() == service_links({name: value})
    with pytest.raises(ConfigError, match=f"^{name} is not a setting"):
        settings.check_names({name: value})


# What systemd, Docker, Cloud Run, Nomad, ECS, Heroku and Fly.io set in a process, among others.
OTHERS = {
    "PORT": "8080",
    "HOST": "0.0.0.0",
    "HOSTNAME": "holdline-server-7c9f",
    "NOTIFY_SOCKET": "/run/systemd/notify",
    "LISTEN_FDS": "1",
    "INVOCATION_ID": "8c1f09d2a7b3e645",
    "CREDENTIALS_DIRECTORY": "/run/credentials/holdline-server.service",
    "MEMORY_PRESSURE_WATCH": "/dev/null",
    "K_SERVICE": "holdline",
    "NOMAD_PORT_http": "8080",
    "ECS_CONTAINER_METADATA_URI_V4": "http://169.254.170.2/v4",
    "DYNO": "web.1",
    "FLY_APP_NAME": "holdline",
    "KUBERNETES_PORT": "tcp://10.96.0.1:443",
    "REDIS_PORT": "tcp://10.96.0.9:6379",
    "OPENAI_PORT": "tcp://10.96.0.9:80",
}


def test_variables_of_other_orchestrators_change_no_setting() -> None:
    settings.check_names(OTHERS)
    for name, setting in SETTINGS.items():
        assert str(setting.default) == settings.text(OTHERS, name)
