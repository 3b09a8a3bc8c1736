"""The front ends are installed by `make setup-tests`, as third-party programs are."""

import os

from tests.browser import (  # noqa: F401 - fixtures
    browser,
    chromium,
    open_page,
    serve_app,
)
from tests.paths.conftest import shared as shared  # noqa: PLC0414 - a fixture, used by its name

# `make test` skips these files if the front ends are not installed.
collect_ignore_glob = [] if os.environ.get("PROGRAMS") else ["test_*.py"]
