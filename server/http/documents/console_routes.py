"""The routes of the console, for `/openapi.json`."""

from __future__ import annotations

from typing import Final

from jobs.worker_registry import MAX_PAGE
from server.api.schema import console

CONSOLE: Final = "/v1/console"
WORKERS: Final = f"{CONSOLE}/workers"
ONE: Final = f"{CONSOLE}/responses/{{id}}"

ROUTES: Final = (
    ("get", CONSOLE, "Get the state of the service", None, console.State),
    ("get", WORKERS, "List the live workers", None, console.Workers),
    ("get", ONE, "Get the timeline of a response", None, console.Timeline),
    ("get", f"{ONE}/contents", "Get the prompt and the answer", None, console.Contents),
    ("get", "/console", "Get the console page", None, "text/html"),
)
PARAMETERS: Final = {
    ("get", WORKERS): (
        ("query", "limit", {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": 100}),
        ("query", "after", {"type": "string"}),
    ),
}
