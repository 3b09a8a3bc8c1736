"""Connects to Redis, Redis Sentinel or Redis Cluster, and runs commands, scripts and pub/sub.

This package does not depend on the content of jobs or scripts.
"""
