"""Benchmarks of Holdline: `python -m bench [P1 ...]`, see docs/performance.md."""
