"""Control's side of the worker processes: the pool, its channels, counters and rule status."""
