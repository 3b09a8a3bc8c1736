"""Fixtures for third-party programs, which `make setup-tests` installs in the folder PROGRAMS."""

import os

from tests.paths.conftest import shared as shared  # noqa: PLC0414 - a fixture, used by its name
from tests.paths.conftest import upstreams as upstreams  # noqa: PLC0414

# `make test` skips these files if the programs are not installed.
collect_ignore_glob = [] if os.environ.get("PROGRAMS") else ["test_*.py"]
