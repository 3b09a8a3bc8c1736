"""Encrypts and sends pushes to the devices of end users. The subscriptions are in `jobs`."""
