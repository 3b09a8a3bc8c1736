"""Supports endpoints of the Responses API: requests, and events and items under our own ids.

The HTTP call, and code for both APIs, are in `worker.upstream`.
"""
