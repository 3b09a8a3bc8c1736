"""The types of outgoing objects, both the standard's and our own.

The server writes its JSON directly from the log and does not instantiate these types. `openapi`
generates its schemas from them, and the tests validate real answers against them.
"""
