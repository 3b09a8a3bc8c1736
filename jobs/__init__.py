"""Implements the jobs, the queue and the logs that server and worker share through Redis.

This package does not use HTTP or WebSocket, and calls no model.
"""
