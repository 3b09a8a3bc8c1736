"""Builds the artefacts of a release in a folder."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
from typing import TYPE_CHECKING, Final

from dev import npm, wheel

from .tools import LeftOut, ReleaseError, run

if TYPE_CHECKING:
    from pathlib import Path

    from .source import Source
    from .tools import Tools

SUMS: Final = "SHA256SUMS"


def python_distributions(source: Source, tools: Tools, scratch: Path, target: Path) -> None:
    """Builds the sdists of the server and the client, and from each sdist its wheel."""
    staged = scratch / "server"
    wheel.stage(staged, source.folder)
    for project in (staged, source.folder):
        tools.run("python", "-m", "build", "--no-isolation", "--outdir", target, project)


def npm_package(source: Source, tools: Tools, scratch: Path, target: Path) -> None:
    """Packs the npm package."""
    staged = scratch / "npm"
    npm.stage(staged, source.folder)
    run(
        *("npm", "pack", "--silent", "--pack-destination", target),
        cwd=staged,
        environ=tools.environ,
    )


def manifests(source: Source, tools: Tools, scratch: Path, target: Path) -> None:
    """Packs the manifests for Kubernetes, with each overlay also as one rendered file.

    Raises:
        LeftOut: kubectl is missing.
    """
    if shutil.which("kubectl") is None:
        raise LeftOut("the manifests for Kubernetes, because kubectl is missing")
    folder = scratch / "kubernetes"
    shutil.copytree(source.folder / "deploy/kubernetes", folder)
    (folder / "rendered").mkdir()
    for overlay in sorted((folder / "overlays").iterdir()):
        rendered = run("kubectl", "kustomize", overlay, environ=tools.environ)
        (folder / "rendered" / f"{overlay.name}.yaml").write_text(rendered, encoding="utf-8")
    name = f"holdline-kubernetes-{source.version}"
    tar_folder(folder, f"{name}/", source.epoch, target / f"{name}.tar")


def image(source: Source, tools: Tools, root: Path, scratch: Path, target: Path) -> None:
    """Builds the container image, and writes it as an archive in the format of the OCI.

    In that format, two builds on the same base are equal.

    Raises:
        LeftOut: buildah is missing, or it cannot build the image, for example without its base.
    """
    if shutil.which("buildah") is None:
        raise LeftOut("the image, because buildah is missing")
    try:
        run("make", "--silent", "image", "CONTAINER=buildah", cwd=root, environ=tools.environ)
    except ReleaseError as error:
        raise LeftOut(f"the image: {error}") from None
    archive = target / f"holdline-image-{source.version}.tar"
    export_image(f"holdline:{source.version}", scratch / "image", source, archive)


def export_image(name: str, folder: Path, source: Source, target: Path) -> None:
    """Writes an image of buildah as an archive in the format of the OCI."""
    run("buildah", "push", "--quiet", name, f"oci:{folder}:{source.version}")
    tar_folder(folder, "", source.epoch, target)


def tar_folder(folder: Path, prefix: str, epoch: int, target: Path) -> None:
    """Packs the files of a folder with a prefix of their names; equal files give equal bytes."""
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = archive.gettarinfo(path, f"{prefix}{path.relative_to(folder).as_posix()}")
            entry.mtime, entry.mode = epoch, 0o644
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            with path.open("rb") as content:
                archive.addfile(entry, content)


def write_sums(folder: Path) -> None:
    """Writes the checksums of all files in a folder, as `sha256sum` does."""
    paths = sorted(path for path in folder.iterdir() if path.name != SUMS)
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in paths]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")
