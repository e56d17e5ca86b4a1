"""Where the library and the workflow lie: in a checkout, or in the installed package, which carries the workflow along."""

from __future__ import annotations

from pathlib import Path

LIBRARY = Path(__file__).resolve().parents[1]
CHECKOUT = (LIBRARY.parents[1] / "Snakefile").is_file()
PROJECT = LIBRARY.parents[1] if CHECKOUT else LIBRARY / "project"
"""Folder of Snakefile, config/, workflow/, envs/ and profiles/."""

SNAKEFILE = PROJECT / "Snakefile"
