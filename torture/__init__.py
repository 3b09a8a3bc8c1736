"""A torture test for servers of the Responses API: `python -m torture --help`.

It drives a server through its public interface only, with a simulated model behind it. See
docs/torture.md.
"""
