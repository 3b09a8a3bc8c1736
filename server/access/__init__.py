"""Who a caller is and what the caller may do: API keys, signed tokens, owners.

The HTTP middleware that asks is in `server.http`, the socket's part in `server.websocket`.
"""
