"""vit-verify: the proof on a user's own checkpoint. Nothing here needs pytest."""
