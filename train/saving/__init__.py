"""Saved steps: what a run goes on from after it was stopped, and the weights that it leaves."""
