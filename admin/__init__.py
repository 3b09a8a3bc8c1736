"""The operator's commands: API keys, signing keys, tenants, users' data, dead list, audit log.

Each module except `cli` and `audited` is one command, `python -m admin.<name>`. No other package
imports `admin`. Code that a command shares with the server or the worker is in `server`, `worker`
or `jobs`.
"""
