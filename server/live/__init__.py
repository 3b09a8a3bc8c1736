"""Follows response logs: one relay per process, one feed per response, one cursor per follower.

Sockets and HTTP streams implement `Sink`; this package imports neither.
"""
