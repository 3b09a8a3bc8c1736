"""Builds and checks everything that a release publishes; see docs/releases.md."""
