"""The benchmarks of Holdline: `python -m bench [P1 ...]`. See docs/performance.md."""
