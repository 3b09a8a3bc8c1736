"""The API's vocabulary: requests, items, frames, errors, and the schemas of outgoing messages.

These modules do no I/O: sockets are in `server.websocket`, and HTTP routes are in `server.http`.
"""
