"""Checks an installation: Redis, machine, settings, keys, models and workers.

`holdline doctor` runs all checks. Each module has the checks of one subject, and `report`
runs them.
"""
