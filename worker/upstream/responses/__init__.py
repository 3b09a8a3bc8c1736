"""The Responses API as an upstream: the request, and its events and items under our own ids.

What both APIs share, and the call itself, lie in `worker.upstream`.
"""
