"""Tests that every file of another project in the packages is listed with its licence."""

from __future__ import annotations

import re

from dev.checkout import checkout_files
from dev.notices import VENDOR, licence_expression, notice, vendored
from dev.wheel import FOLDERS
from tests.system import ROOT

# The type declarations of vendored modules are our own or of the same package as their module.
UNLISTED = re.compile(r"\.d\.m?ts$|^VERSIONS$")
# How the files of other projects begin.
FOREIGN = re.compile(r"Copyright\s+(\(c\)|©|\d{4})|@license\b|SPDX-License", re.IGNORECASE)


def test_the_notice_has_each_vendored_package_with_the_text_of_its_licence() -> None:
    text = notice(ROOT)
    packages = vendored(ROOT)
    assert ["@highlightjs/cdn-assets", "katex", "marked"] == [each.name for each in packages]
    for package in packages:
        assert f"{package.name} {package.version} ({package.licence}), in web/vendor/" in text
        assert package.text in text
        assert re.search(r"Copyright \(c\)", package.text)
    assert "Apache-2.0 AND BSD-3-Clause AND MIT" == licence_expression(ROOT)


def test_every_vendored_file_belongs_to_a_package_with_its_hash() -> None:
    listed = {file: digest for package in vendored(ROOT) for file, digest in package.files.items()}
    folder = ROOT / VENDOR
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert set(listed) == {name for name in names if not UNLISTED.search(name)}
    assert {128} == {len(digest) for digest in listed.values()}


def test_no_file_outside_the_vendor_folder_has_a_copyright_of_others() -> None:
    places = (*FOLDERS, "web", "holdline_client")
    names = [
        name
        for name in checkout_files()
        if name.partition("/")[0] in places and not name.startswith(VENDOR)
    ]
    assert len(names) > 300
    assert [] == [name for name in names if FOREIGN.search((ROOT / name).read_text())]
