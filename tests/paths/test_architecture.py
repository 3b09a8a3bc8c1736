"""The README and the pictures of the architecture match the code."""

from __future__ import annotations

import re

from tests.paths.documents import README, ROOT, blocks, section


def test_the_files_on_the_path_of_a_prompt_exist() -> None:
    path, beside = blocks(section(README, "How it works"), "")
    for line in (path + beside).splitlines():
        assert (ROOT / line.split()[0]).is_file(), line
        for other in re.findall(r"\b\w+\.py\b", line.partition(" ")[2]):
            assert (ROOT / line.split()[0]).with_name(other).is_file(), line
