"""What a model looked at: maps of its attention, the image that they lie on, and a picture of both."""
