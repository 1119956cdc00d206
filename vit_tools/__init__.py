"""What people run on a model, in either framework. Loading this package loads neither."""
