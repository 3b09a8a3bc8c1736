"""Infrastructure of every Holdline process: logs, supervision, back-off, tuning.

It does not depend on Redis, HTTP or models, and imports no other package of the project.
"""
