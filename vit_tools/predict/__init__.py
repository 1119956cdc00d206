"""vit-predict: what a model says of images, what it looked at, and which images it finds alike."""
