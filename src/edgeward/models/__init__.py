"""Models: timm's by name and our own, wrapped so that they take 0-255 images."""
