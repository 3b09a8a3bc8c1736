"""HTTP routes, server-sent events, and the pages and documents that the server provides.

`server.api` validates request bodies; `server.access` authenticates and authorizes callers.
"""
