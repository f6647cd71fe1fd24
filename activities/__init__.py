"""What it does: the side effects, one file for each thing acted upon; idempotent, without policy."""
