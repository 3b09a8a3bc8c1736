"""Connections to Redis: one node, Sentinel or Cluster; commands, scripts and notifications.

Nothing here depends on what a job is or what a script does.
"""
