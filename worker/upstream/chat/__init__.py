"""Supports endpoints with the Chat Completions API: builds requests and reads streams of chunks.

The package `worker.upstream` makes the HTTP calls, and contains the code for both APIs.
"""
