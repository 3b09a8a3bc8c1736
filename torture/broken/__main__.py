"""Starts a server or a worker: `python -m torture.broken server --help`."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from aiohttp import web

from torture.broken.faults import Fault
from torture.broken.server import Server
from torture.broken.store import Store
from torture.broken.worker import Worker

SHUTDOWN_SECONDS = 1.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m torture.broken", description=__doc__)
    parts = parser.add_subparsers(dest="part", required=True)
    server = parts.add_parser("server", help="accepts requests, and sends events")
    server.add_argument("--port", type=int, required=True)
    server.add_argument("--name", default="server", help="distinguishes the servers")
    worker = parts.add_parser("worker", help="calls the model")
    worker.add_argument("--model-url", required=True, help="the base URL of chat completions")
    for part in (server, worker):
        part.add_argument("--database", type=Path, required=True)
        part.add_argument("--fault", choices=["none", *Fault], default="none")
    options = parser.parse_args()
    fault = None if options.fault == "none" else Fault(options.fault)
    store = Store(options.database, fault)
    try:
        if options.part == "worker":
            print("ready")
            asyncio.run(Worker(store, options.model_url.rstrip("/"), fault).run())
        else:
            application = Server(store, options.name, fault).application()
            web.run_app(
                application,
                host="127.0.0.1",
                port=options.port,
                handler_cancellation=True,
                shutdown_timeout=SHUTDOWN_SECONDS,
                print=None,
            )
    finally:
        store.close()


if __name__ == "__main__":
    main()
