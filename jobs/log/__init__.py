"""Handles the log of a response: builds, encodes, stores and compacts its events.

A log is a Redis list in which the index of an event is its `sequence_number`. The package
`jobs.redis` contains the connections to Redis, and `jobs.scripts` the scripts that change a job.
"""
