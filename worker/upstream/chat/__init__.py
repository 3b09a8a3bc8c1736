"""Supports endpoints of the Chat Completions API: requests, messages and the chunks of a stream.

The HTTP call, and code for both APIs, are in `worker.upstream`.
"""
