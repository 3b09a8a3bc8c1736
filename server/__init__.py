"""Holds sockets, follows logs and pushes what they say. Never calls a model."""
