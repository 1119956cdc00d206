"""Golden checkpoints: tiny files that the original code of each family wrote, with its own float64 outputs."""
