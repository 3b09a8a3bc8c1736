"""What an operator runs: keys, signers, tenants, one subject's data, the dead list.

Each module is one command, `python -m admin.<name>`. Nothing imports this package; code that the
server or the worker needs too lives with them or in `jobs`.
"""
