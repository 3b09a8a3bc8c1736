"""Infrastructure that every Holdline process uses: logs, supervision, retry delays, tuning.

This package does not depend on Redis, HTTP or models. It imports no other package of the project.
"""
