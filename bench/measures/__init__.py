"""The benchmarks P1 to P12. Each module whose name begins with `p` defines a `MEASURE`."""
