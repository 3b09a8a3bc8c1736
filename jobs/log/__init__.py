"""The log of a response: its events, their encoding and compaction, and the state they fold into.

A log is a Redis list in which an event's index is its `sequence_number`. Connections to Redis are
in `jobs.redis`, and the transitions of a job in `jobs.scripts`.
"""
