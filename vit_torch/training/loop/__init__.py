"""A small loop around the specification's step: the settings of a vit-train run, in PyTorch, on data in memory."""
