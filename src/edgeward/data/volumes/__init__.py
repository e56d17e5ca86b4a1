"""Volumes: geometry from the header, one grid and one scale of intensity, then the flat arrays."""
