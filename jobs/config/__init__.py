"""Reads the configuration that server and worker share: the settings and the models file.

This package does not know the settings' effects: the rooms that use a setting read its value.
"""
