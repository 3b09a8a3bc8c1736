"""The operator's commands for API keys, signing keys, tenants, users' data and the dead list.

Each module except `cli` is one command, `python -m admin.<name>`. No other package imports `admin`.
Code that a command shares with the server or the worker is in `server`, `worker` or `jobs`.
"""
