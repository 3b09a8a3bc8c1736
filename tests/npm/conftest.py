"""The page's requirements are installed by `make setup-tests`, as those of third-party programs."""

import os

from tests.browser import (  # noqa: F401 - fixtures
    browser,
    chromium,
    open_page,
    serve_app,
)

# `make test` skips these files if the requirements are not installed.
collect_ignore_glob = [] if os.environ.get("PROGRAMS") else ["test_*.py"]
