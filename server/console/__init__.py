"""The console, which shows operators the state of the whole service."""
