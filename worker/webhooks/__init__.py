"""Webhooks: building, signing and sending them.

The queue of webhooks is in `jobs.hooks`.
"""
