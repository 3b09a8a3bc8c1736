"""Supports endpoints with the Responses API: builds requests and reads streams of events.

Items get Holdline's own ids and indexes. The package `worker.upstream` makes the HTTP calls, and
contains the code for both APIs.
"""
