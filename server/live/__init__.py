"""Following a response's log: one feed a response, one cursor a follower, one relay a process.

Sockets and HTTP streams are sinks to this package; it knows neither.
"""
