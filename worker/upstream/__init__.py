"""Calls models: builds their requests, and reads their streams of chunks or events.

This package yields output and raises errors; `worker.flusher` writes the log.
"""
