"""Checks an installation: Redis, machine, settings, keys, models and workers.

`python -m admin.doctor` runs all checks. Each module has the checks of one subject, and `report`
runs them.
"""
