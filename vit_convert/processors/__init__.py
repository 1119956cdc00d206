"""How other libraries write preprocessing down: one file per dialect, each to and from `Preprocess`."""
