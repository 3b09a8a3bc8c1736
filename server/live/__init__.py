"""Follows logs, with one relay per process, one feed per response and one cursor per follower.

Sockets and HTTP streams implement `Sink`; this package imports neither.
"""
