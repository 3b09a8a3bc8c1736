"""The operator's commands: status, keys, tenants, users' data, the dead list and the audit log.

Each module except `cli`, `audited` and `status_text` is one command of `holdline`, and so is the
package `doctor`. Only `command` imports `admin`. Code that a command shares with the server or the
worker is in `server`, `worker` or `jobs`.
"""
