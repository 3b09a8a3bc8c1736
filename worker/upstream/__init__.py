"""Calls models: builds requests for their endpoints, and reads the streams of their answers.

This package yields pieces of output and raises errors. `worker.flusher` writes the output to the
log.
"""
