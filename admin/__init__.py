"""Commands for operators: keys, signers, tenants, one subject's data, the dead list.

Each module is one command, `python -m admin.<name>`. No other package imports this one; code that
the server or the worker needs too is in their packages or in `jobs`.
"""
