"""What happens: one deterministic workflow for each clause of the rulebook."""
