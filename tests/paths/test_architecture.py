"""Tests that the architecture page and its diagrams match the code."""

from __future__ import annotations

import itertools
import re

import pytest

from dev import trace
from dev.architecture import ROUTES, arrows, imports, pictures, rooms
from tests.paths.documents import ARCHITECTURE, ROOT, blocks, section

pytestmark = pytest.mark.checkout


def test_the_files_on_the_path_of_a_prompt_exist() -> None:
    path, beside = blocks(section(ARCHITECTURE, "The files on the path of one prompt"), "")
    for line in (path + beside).splitlines():
        assert (ROOT / line.split()[0]).is_file(), line
        for other in re.findall(r"\b\w+\.py\b", line.partition(" ")[2]):
            assert (ROOT / line.split()[0]).with_name(other).is_file(), line


def test_the_committed_pictures_are_those_that_the_script_draws() -> None:
    images = ROOT / "docs/images"
    committed = {path.name: path.read_text() for path in images.glob("architecture-*.svg")}
    assert committed == pictures(), "run python -m dev.architecture"
    for name, drawn in trace.pictures().items():
        assert drawn == (images / name).read_text(), "run python -m dev.trace"


def test_the_picture_of_the_packages_has_each_arrow_of_the_code_and_no_other() -> None:
    assert arrows(imports()) == ROUTES.keys()


@pytest.mark.parametrize("name", pictures())
def test_the_boxes_of_a_picture_are_apart_or_nested(name: str) -> None:
    pattern = r'<rect x="(\d+)" y="(\d+)" width="(\d+)" height="(\d+)"'
    found = [tuple(map(int, numbers)) for numbers in re.findall(pattern, pictures()[name])]
    boxes = [(x, y, x + width, y + height) for x, y, width, height in found]
    for one, other in itertools.combinations(boxes, 2):
        lefts, tops, rights, bottoms = zip(one, other, strict=True)
        inner = (max(lefts), max(tops), min(rights), min(bottoms))
        apart = inner[0] >= inner[2] or inner[1] >= inner[3]
        assert apart or inner in {one, other}, (one, other)


def test_an_import_without_a_place_in_the_picture_is_an_error() -> None:
    found = imports()
    found["jobs"].add("server/http")
    with pytest.raises(KeyError, match="jobs"):
        rooms(found)
