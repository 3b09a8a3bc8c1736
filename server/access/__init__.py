"""Authentication and authorization: API keys, signed tokens and the owners of responses.

`server.http` applies these rules to HTTP requests, and `server.websocket` applies them to sockets.
"""
