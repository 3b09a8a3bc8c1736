"""The benchmarks P1 to P15. Each module whose name begins with `p` defines a `MEASURE`."""
