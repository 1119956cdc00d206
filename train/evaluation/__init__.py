"""Judging a model by a whole split: sums over every example, a picture of what is taken for what, and the command."""
