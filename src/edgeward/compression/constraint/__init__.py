"""Compression that must not cost rare classes or calibration: losses, multipliers, acceptance, search."""
