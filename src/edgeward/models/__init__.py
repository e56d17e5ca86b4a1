"""Models: timm's by name and our own, wrapped so that they take 0-255 images.

``edgeward.models.config`` is imported to validate configs, where torch would cost seconds; so the
names here load their modules when first used, and timm loads when a model is built.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeward.models.deploy import Deployable, reparameterize
    from edgeward.models.factory import build

__all__ = ["Deployable", "build", "reparameterize"]

_HOME = {"Deployable": "deploy", "build": "factory", "reparameterize": "deploy"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
