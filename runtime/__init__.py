"""What any process of Holdline needs, whatever it does: logs, supervision, back-off, tuning.

Nothing here knows Redis, HTTP or models. This package imports none of the others.
"""
