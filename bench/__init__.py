"""What is held to be fast, measured: `python -m bench [P1 ...]`, see docs/performance.md."""
