"""The log of a response: its events, their encoding and compaction, and the state they fold into.

A log is a Redis list whose index is the event's `sequence_number`. Connections to Redis are in
`jobs.redis`, the transitions of a job in `jobs.scripts`.
"""
