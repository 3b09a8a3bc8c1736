"""WebSocket connections: their messages, authentication, lanes, back-pressure and limits.

`server.responses` carries out the requests, and `server.live` follows the logs.
"""
