"""The benchmarks P1 to P12. Each module defines a `MEASURE`."""
