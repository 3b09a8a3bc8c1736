"""Authentication and authorization: API keys, signed tokens and the owners of responses.

The HTTP middleware that applies them is in `server.http`, the socket's part in `server.websocket`.
"""
