"""What server and worker agree on byte for byte: records, events, keys, the queue and the log."""
