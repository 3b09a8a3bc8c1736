"""Tests that the server's wheel is a single package that behaves like the checkout."""

from __future__ import annotations

import os
import signal
import sys
import tomllib
import zipfile
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from dev import wheel_tests
from dev.staging import StagingError
from dev.wheel import FOLDERS, PACKAGE, ROOT, _sources, rewrite, stage
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from jobs.worker_registry import LiveWorker, WorkerRegistry
from tests.fake_model import FakeModel
from tests.system import System, free_port, run_command, wait_until

MODULES = {"jobs", "jobs.log", "jobs.log.log", "server", "worker.__main__"}


@pytest.mark.parametrize(
    ("source", "staged"),
    [
        ("from jobs.log.log import read\n", "from holdline_server.jobs.log.log import read\n"),
        ("from  jobs import log as it\n", "from  holdline_server.jobs import log as it\n"),
        ("é = 1; from jobs import log\n", "é = 1; from holdline_server.jobs import log\n"),
        ("if x:\n    from jobs import log\n", "if x:\n    from holdline_server.jobs import log\n"),
        ("name = 'jobs.log'\n", "name = 'holdline_server.jobs.log'\n"),
        (
            "code = 'import x\\nfrom jobs import log'\n",
            "code = 'import x\\nfrom jobs import log'\n",
        ),
        (
            "code = '''\nfrom jobs.log import log\n'''\n",
            "code = '''\nfrom holdline_server.jobs.log import log\n'''\n",
        ),
        (
            "text = '''\nfrom server to client\n'''\n",
            "text = '''\nfrom server to client\n'''\n",
        ),
        ("name = 'jobs.log.log.LIMIT'\n", "name = 'holdline_server.jobs.log.log.LIMIT'\n"),
        ("name = 'server.kill'\n", "name = 'server.kill'\n"),
        ("f'é `python -m server` {x}'\n", "f'é `python -m holdline_server.server` {x}'\n"),
        ("from .jobs import log\n", "from .jobs import log\n"),
        ("from jobs_of_others import log\n", "from jobs_of_others import log\n"),
        ("role = 'server'\n", "role = 'server'\n"),
        ("from importlib.metadata import version\n", "from importlib.metadata import version\n"),
    ],
)
def test_package_names_are_prefixed(source: str, staged: str) -> None:
    assert staged == rewrite(source, "a.py", MODULES)


refused = pytest.mark.parametrize(
    "source",
    [
        "import jobs.log.log\n",
        "import jobs\n",
        "import importlib\n",
        "from importlib import import_module\n",
        "x = __import__('jobs')\n",
        "from \\\n jobs import log\n",
        "run([sys.executable, '-m', 'server'])\n",
        "name = 'jobs' '.log'\n",
    ],
)


@refused
def test_a_line_that_cannot_be_rewritten_is_rejected_with_its_location(source: str) -> None:
    with pytest.raises(StagingError, match=r"^a\.py:1: "):
        rewrite(source, "a.py", MODULES)


@refused
def test_a_test_may_have_such_a_line(source: str) -> None:
    assert source == rewrite(source, "a.py", MODULES, strict=False)


def test_bytecode_that_another_process_is_writing_is_left_out(tmp_path: Path) -> None:
    cache = tmp_path / "jobs" / "__pycache__"
    cache.mkdir(parents=True)
    (cache / "a.cpython-311.pyc.140737").write_bytes(b"\x00")
    (tmp_path / "jobs" / "a.py").touch()
    assert [tmp_path / "jobs" / "a.py"] == list(_sources(tmp_path))


async def install(folder: Path) -> str:
    """Installs the wheel in a new environment with the project's dependencies.

    Returns the environment's Python.
    """
    stage(folder / "staged")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet")
    await run_command(
        *(*pip, "wheel", "--no-index", "--no-build-isolation", "--no-deps"),
        *("--wheel-dir", ".", str(folder / "staged")),
        cwd=folder,
    )
    (wheel,) = folder.glob("holdline_server-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    assert {PACKAGE, f"{'-'.join(wheel.name.split('-')[:2])}.dist-info"} == tops
    await run_command(sys.executable, "-m", "venv", "--without-pip", "fresh", cwd=folder)
    python = str(folder / "fresh/bin/python")
    await run_command(
        *pip, "--python", python, "install", "--no-index", "--no-deps", wheel.name, cwd=folder
    )
    (site,) = (folder / "fresh/lib").glob("python*/site-packages")
    dependencies = [place for place in sys.path if place.endswith("site-packages")]
    (site / "dependencies.pth").write_text("\n".join(dependencies))
    return python


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Returns the Python of an environment with the installed wheel."""
    return await install(tmp_path_factory.mktemp("installed"))


async def both_workers(pipe: Pipe) -> list[LiveWorker]:
    """Returns the records of two worker processes, or nothing until both have written one."""
    workers = await WorkerRegistry(pipe, 15_000).all()
    return workers if len({worker.pid for worker in workers}) == 2 else []


@pytest.mark.heavy
@pytest.mark.timeout(180)
async def test_an_installed_wheel_serves_requests_and_adds_only_one_package(
    python: str, redis_url: str, tmp_path: Path
) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

    find = f"import importlib.util as u; print([n for n in {(*FOLDERS, 'web')} if u.find_spec(n)])"
    assert "[]\n" == await run_command(python, "-c", find, cwd=tmp_path)
    where = await run_command(
        python, "-c", f"import {PACKAGE}; print({PACKAGE}.__file__)", cwd=tmp_path
    )
    assert str(ROOT) not in where

    command = str(Path(python).with_name("holdline"))
    assert "  worker " in await run_command(command, "--help", cwd=tmp_path)
    output = await run_command(command, "worker", "--help", cwd=tmp_path)
    assert output.startswith("Usage: holdline worker ")
    output = await run_command(command, "keys", "create", "--help", cwd=tmp_path)
    assert output.startswith("Usage: holdline keys create ")

    folder = tmp_path / "system"
    folder.mkdir()
    # The user's files must not take the place of the modules that the processes import.
    (tmp_path / "aiohttp.py").write_text("raise RuntimeError('a file of the user')\n")
    async with (
        FakeModel() as model,
        System(redis_url, folder, program=(command,), cwd=tmp_path) as system,
        aiohttp.ClientSession() as http,
    ):
        assert "settings are valid" in await system.run("check", "--program", "server")
        # With several processes, each child process is started by its module name.
        server = await system.server(HOLDLINE_PROCESSES="2")
        worker = await system.worker(model.url, HOLDLINE_PROCESSES="2")
        await wait_until(lambda: worker.output.count("worker ready") == 2)
        async with Pipe(Redis(redis_url)) as pipe:
            registered = await wait_until(lambda: both_workers(pipe))
        assert [version, version] == [one.version for one in registered]
        body = {"input": "tokens=3"}
        async with http.post(f"{server.url}/v1/responses", json=body) as response:
            answer = await response.json()
        assert "completed" == answer["status"], answer
        assert 3 == len(answer["output"][0]["content"][0]["text"].split())
        for path, part in (
            ("/", "holdline-chat"),
            ("/widget.js", "INTEGRITY"),
            ("/docs/operating.md", "`holdline server`"),
            ("/docs/images/bench-delay.svg", "<svg"),
        ):
            async with http.get(server.url + path) as response:
                assert part in await response.text(), path


@pytest.mark.heavy
@pytest.mark.timeout(300)
async def test_the_tests_of_an_sdk_pass_with_the_installed_wheel(
    python: str, tmp_path: Path
) -> None:
    """`make test-wheel` runs all other tests too."""
    wheel_tests.stage(tmp_path / "tests")
    inner = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    output = await run_command(
        *(python, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", "-o", "asyncio_debug=false"),
        *("-k", "plain_answer or can_resume", "tests/paths/test_sdk_http.py"),
        cwd=tmp_path / "tests",
        environ=inner,
    )
    assert "2 passed" in output
    find = "from server import app"
    with pytest.raises(AssertionError, match="No module named 'server'"):
        await run_command(python, "-c", find, cwd=tmp_path / "tests")


@pytest.mark.timeout(180)
async def test_an_installed_holdline_runs_everything_and_is_removed_without_a_trace(
    tmp_path: Path,
) -> None:
    python = await install(tmp_path)
    command, home = str(Path(python).with_name("holdline")), tmp_path / "home"
    home.mkdir()
    async with System("", tmp_path, program=(command,), cwd=home) as system:
        system.environ = {"HOME": str(home), "DEMO_TOKENS_PER_SECOND": "2000"}
        port = str(free_port())
        up = system.start("up", HOLDLINE_PORT=port)
        await wait_until(lambda: "Ctrl-C stops everything" in up.output, 60)
        url = f"http://127.0.0.1:{port}"
        assert "> Why is the sky blue?" in await system.run(
            "ask", "--url", url, "Why is the sky blue?"
        )
        assert "append-only file" in await system.run("status")
        up.signal(signal.SIGINT)
        assert 0 == await up.wait()
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python)
    await run_command(*pip, "uninstall", "--yes", "holdline-server", cwd=home)
    left = [path for path in (tmp_path / "fresh").rglob("*holdline*") if path.is_file()]
    assert [] == left
    assert [home / ".local/share/holdline"] == list(home.glob("*/*/*"))
