"""Runs Redis, the model, a server and a worker on this machine: `holdline up` and `make run`."""
