"""The HTTP routes, server-sent events, and the pages and documents that are served.

The rules of a request's body are in `server.api`; who may call is in `server.access`.
"""
