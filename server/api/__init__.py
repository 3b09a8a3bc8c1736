"""The API's vocabulary: requests, items, frames, errors and the schemas of what is sent.

All of it is pure: sockets are in `server.websocket`, routes in `server.http`.
"""
