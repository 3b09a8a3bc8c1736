"""Calling a model: its request, its stream, and what the stream's chunks or events mean.

This package yields output and errors; the log is written by `worker.flusher`.
"""
