"""Routes in the protocols of other projects' front ends.

Each protocol is a translation of a response's log: `answer.py` reads the log, and one module for
each protocol writes it. Requests use the same admission, queue and limits as the Responses API.
"""
