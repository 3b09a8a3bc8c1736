"""A target file for tests."""

VALID = """\
name = "Mine"
about = "A server."
home = "https://example.com"

[parameters]
level = "1"

[model]
name = "simulation"

[client]
routes = ["responses", "stream"]

[[process]]
name = "server"
roles = ["server"]
start = ["serve", "{port}", "{parameter:level}"]
url = "http://127.0.0.1:{port}/v1"
ready = { http = "http://127.0.0.1:{port}/health" }

[[process]]
name = "worker"
roles = ["worker"]
start = ["work", "{model_url}"]

[[claim]]
cases = ["stream.complete"]
url = "https://example.com/streams"
"""
