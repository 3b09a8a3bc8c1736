"""One file a measure, P1 to P12; each holds a `MEASURE`."""
