"""vit-app: a local page that shows what both frameworks say of a photo, and what each head of each layer looked at."""
