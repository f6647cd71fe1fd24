"""What the rules say: pure decisions over plain values, without I/O, clock, Temporal or database."""
