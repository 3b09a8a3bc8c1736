"""Simulates a fleet of workers in one process, with virtual time and the real Lua scripts."""
