"""One WebSocket: its messages, authentication, lanes, back-pressure and limits.

What a message asks for is done in `server.responses`; following a log is in `server.live`.
"""
