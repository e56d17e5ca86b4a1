"""The steps that a recipe is made of: one file each.

A file holds one subclass of `Step` whose field ``step`` is a literal, its name in recipes.
It is found by being here: nothing else has to be edited (see docs/add-a-recipe.md).
"""

from __future__ import annotations

import importlib
import pkgutil

from edgeward.compression.step import Step

READS = ("*.py",)  # loaded by name: see edgeward.pipeline.closure


def step_classes() -> list[type[Step]]:
    """Return the steps of this package, by file name."""
    found = []
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        found += [
            value
            for value in vars(module).values()
            if isinstance(value, type)
            and issubclass(value, Step)
            and value.__module__ == module.__name__
        ]
    return found
