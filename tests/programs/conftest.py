"""What runs the programs: `make setup-tests` installs them, and PROGRAMS says where."""

import os

from tests.paths.conftest import shared as shared  # noqa: PLC0414 - a fixture, used by its name

# Without them there is nothing to test, and `make test` passes these files over.
collect_ignore_glob = [] if os.environ.get("PROGRAMS") else ["test_*.py"]
