"""The simulated model: an HTTP server for chat completions and responses.

Each prompt carries a script, which says how the model answers it. See `torture.model.script`.
"""
