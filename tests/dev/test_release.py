"""Tests that a release is reproducible, and that a wrong one is refused."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from dev.release import artefacts, sbom
from dev.release.source import Source, check_tag, export
from dev.release.tools import LeftOut, ReleaseError, Tools
from tests.system import ROOT, run_command

TOOLS = ROOT / ".venv-release"
EPOCH = 1_750_000_000
# `make test` skips these tests if the tools are not installed; `make setup-tests` installs them.
with_tools = pytest.mark.skipif(not TOOLS.exists(), reason="`make setup-tests` has not run")


def source(folder: Path = ROOT) -> Source:
    return Source(folder, "1.2.3", EPOCH)


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    environ = os.environ | {"GIT_COMMITTER_DATE": f"@{EPOCH} +0000"}
    subprocess.run(["git", *identity, *arguments], cwd=folder, env=environ, check=True, timeout=30)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A small checkout with one commit."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    (folder / "CHANGELOG.md").write_text("# Changes\n\n## 1.2.3, 2026-11-30\n")
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "x")
    return folder


def test_a_release_is_built_from_the_commit(checkout: Path, tmp_path: Path) -> None:
    (checkout / "untracked").touch()
    found = export(checkout, tmp_path / "export")
    assert "1.2.3" == found.version
    assert EPOCH == found.epoch
    names = {path.name for path in found.folder.iterdir()}
    assert {"CHANGELOG.md", "pyproject.toml"} == names


def test_a_checkout_with_a_change_is_refused(checkout: Path, tmp_path: Path) -> None:
    (checkout / "pyproject.toml").write_text('[project]\nversion = "2.0.0"\n')
    with pytest.raises(ReleaseError, match=r"pyproject\.toml"):
        export(checkout, tmp_path / "export")


def test_a_tag_must_match_the_version_and_the_list_of_changes(tmp_path: Path) -> None:
    (tmp_path / "CHANGELOG.md").write_text("# Changes\n\n## 1.2.3, 2026-11-30\n")
    check_tag(source(tmp_path), "v1.2.3")
    with pytest.raises(ReleaseError, match=r"v1\.2\.4"):
        check_tag(source(tmp_path), "v1.2.4")
    (tmp_path / "CHANGELOG.md").write_text("# Changes\n\n## Unreleased\n")
    with pytest.raises(ReleaseError, match="no section"):
        check_tag(source(tmp_path), "v1.2.3")


@pytest.mark.heavy
@with_tools
@pytest.mark.timeout(180)
def test_two_builds_of_the_python_distributions_are_equal(tmp_path: Path) -> None:
    tools = Tools(TOOLS, EPOCH)
    built = []
    for name, mask in (("one", 0o022), ("two", 0o077)):
        target = tmp_path / name / "dist"
        target.mkdir(parents=True)
        before = os.umask(mask)
        try:
            artefacts.python_distributions(source(), tools, tmp_path / name, target)
        finally:
            os.umask(before)
        built.append({path.name: path.read_bytes() for path in target.iterdir()})
    assert built[0] == built[1]
    wheels = [name for name in built[0] if name.endswith(".whl")]
    sdists = [name for name in built[0] if name.endswith(".tar.gz")]
    assert (2, 2) == (len(wheels), len(sdists))

    for wheel in wheels:
        with zipfile.ZipFile(tmp_path / "two/dist" / wheel) as archive:
            inside = {name: archive.read(name) for name in archive.namelist()}
        [sdist] = [name for name in sdists if name.split("-")[0] == wheel.split("-")[0]]
        with tarfile.open(tmp_path / "two/dist" / sdist) as packed:
            sources = {
                name.partition("/")[2]: packed.extractfile(name).read()  # type: ignore[union-attr]
                for name in packed.getnames()
                if packed.getmember(name).isfile()
            }
        assert {
            n: b for n, b in inside.items() if ".dist-info/" not in n
        }.items() <= sources.items()
        licences = {name.rpartition("/")[2] for name in inside if ".dist-info/licenses/" in name}
        assert licences == ({"LICENSE", "NOTICE"} if "server" in wheel else {"LICENSE"})


@pytest.mark.heavy
@with_tools
@pytest.mark.timeout(1200)
async def test_two_releases_of_one_commit_are_equal(tmp_path: Path) -> None:
    command = (sys.executable, "-m", "dev.release", "--tools", str(TOOLS))
    sums = []
    for name in ("one", "two"):
        await run_command(*command, str(tmp_path / name))
        sums.append((tmp_path / name / artefacts.SUMS).read_text())
    assert sums[0] == sums[1]
    for line in sums[0].splitlines():
        digest, name = line.split("  ")
        assert digest == hashlib.sha256((tmp_path / "two" / name).read_bytes()).hexdigest()


def test_equal_folders_give_equal_archives(tmp_path: Path) -> None:
    archives = []
    for name in ("one", "two"):
        (tmp_path / name / "deep").mkdir(parents=True)
        for file in ("b", "a", "deep/c") if name == "one" else ("deep/c", "a", "b"):
            (tmp_path / name / file).write_text(file)
        (tmp_path / name / "a").chmod(0o600 if name == "one" else 0o755)
        artefacts.tar_folder(tmp_path / name, "top/", EPOCH, tmp_path / f"{name}.tar")
        archives.append((tmp_path / f"{name}.tar").read_bytes())
    assert archives[0] == archives[1]
    with tarfile.open(tmp_path / "two.tar") as packed:
        assert ["top/a", "top/b", "top/deep/c"] == packed.getnames()
        assert {(EPOCH, 0o644, 0)} == {(m.mtime, m.mode, m.uid) for m in packed.getmembers()}


def test_an_artefact_without_its_program_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    tools = Tools(TOOLS, EPOCH)
    with pytest.raises(LeftOut, match="kubectl is missing"):
        artefacts.manifests(source(), tools, tmp_path, tmp_path)
    with pytest.raises(LeftOut, match="buildah is missing"):
        artefacts.image(source(), tools, ROOT, tmp_path, tmp_path)


def test_the_sums_can_be_checked_with_sha256sum(tmp_path: Path) -> None:
    (tmp_path / "b.whl").write_bytes(b"b")
    (tmp_path / "a.tgz").write_bytes(b"a")
    artefacts.write_sums(tmp_path)
    check = ["sha256sum", "--check", "--strict", artefacts.SUMS]
    done = subprocess.run(
        check, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=30
    )
    assert "a.tgz: OK\nb.whl: OK\n" == done.stdout


def part(*licences: dict[str, str]) -> dict[str, object]:
    return {"name": "p", "version": "1", "licenses": [{"license": each} for each in licences]}


@pytest.mark.parametrize(
    ("component", "licence"),
    [
        (part({"id": "MIT"}), "MIT"),
        (part({"id": "MIT"}, {"id": "Apache-2.0"}), "Apache-2.0 AND MIT"),
        (
            {"name": "p", "licenses": [{"expression": "(MIT OR Apache-2.0) AND BSD-3-Clause"}]},
            "(MIT OR Apache-2.0) AND BSD-3-Clause",
        ),
    ],
)
def test_a_known_licence_is_accepted(component: dict[str, object], licence: str) -> None:
    assert {"p": licence} == sbom.check_licences([component])


@pytest.mark.parametrize(
    "component",
    [
        part(),
        part({"id": "GPL-3.0-only"}),
        part({"id": "MIT"}, {"name": "some text"}),
        {"name": "p", "licenses": [{"expression": "MIT AND AGPL-3.0-or-later"}]},
    ],
)
def test_an_unknown_or_forbidden_licence_is_refused(component: dict[str, object]) -> None:
    with pytest.raises(ReleaseError, match="not allowed:\np "):
        sbom.check_licences([component])


def test_the_vendored_files_are_parts_with_their_hashes() -> None:
    parts = {each["name"]: each for each in sbom._vendored(ROOT)}
    marked = parts["marked"]
    assert f"pkg:npm/marked@{marked['version']}" == marked["purl"]
    assert "pkg:npm/%40highlightjs/cdn-assets@" in parts["@highlightjs/cdn-assets"]["purl"]
    [script] = [f for f in marked["components"] if f["name"] == "web/vendor/marked/marked.esm.js"]
    digest = hashlib.sha512((ROOT / script["name"]).read_bytes()).hexdigest()
    assert [{"alg": "SHA-512", "content": digest}] == script["hashes"]
    assert json.dumps(parts)


WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


@with_tools
@pytest.mark.timeout(180)  # zizmor alone takes half a minute on a loaded machine
async def test_the_workflows_are_valid_and_safe() -> None:
    """zizmor finds for example actions without a pinned commit and needless permissions."""
    assert ["ci.yml", "release.yml"] == [path.name for path in WORKFLOWS]
    paths = [str(path) for path in WORKFLOWS]
    schema = ("--builtin-schema", "vendor.github-workflows")
    await run_command(str(TOOLS / "bin/check-jsonschema"), *schema, *paths)
    await run_command(str(TOOLS / "bin/zizmor"), "--offline", "--no-progress", *paths)
