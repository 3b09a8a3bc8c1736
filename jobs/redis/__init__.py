"""Connects to Redis, Redis Sentinel or Redis Cluster, and runs commands, scripts and pub/sub.

This package does not depend on the content of jobs or scripts.
"""

import sys
from typing import Final

# If OpenTelemetry is installed, redis-py imports its metrics, which nothing uses here. This would
# take 50 ms and 2 MB in each process. redis-py handles the error of the import.
_UNUSED: Final = "opentelemetry"
if _UNUSED not in sys.modules:
    sys.modules[_UNUSED] = None  # type: ignore[assignment]
    try:
        import redis.asyncio  # noqa: F401 - imported before the modules of this package
    finally:
        del sys.modules[_UNUSED]
