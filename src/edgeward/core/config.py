"""Base of all config models: closed (no unknown key) and without defaults of their own.

Values live in the Hydra tree under ``config/`` and nowhere else, so a model here only says
which keys exist, of what type and in what range.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Closed(BaseModel):
    """A config section in which a misspelt key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
