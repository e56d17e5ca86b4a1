"""Hydra owns the values, Snakemake owns which runs; this room joins the two."""
