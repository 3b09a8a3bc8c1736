"""The console: what operators see of the whole service."""
