"""Base of all config models, which say what keys exist, what they mean, and what holds when a file is silent."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class Closed(BaseModel):
    """A config section in which a misspelt key is an error and every number is finite.

    The default of a section is that section with its own defaults (``key: Section = Section()``): a file that spells
    part of a section gets the same rest as a file that spells none of it.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False
    )


def _ascending(edges: list[float]) -> list[float]:
    if any(low >= high for low, high in pairwise(edges)):
        raise ValueError("the edges must ascend")
    return edges


Edges = Annotated[list[float], Field(min_length=1), AfterValidator(_ascending)]
"""Where bands of numbers begin, in ascending order; a band holds its lower edge."""


def inherited(source: str, default: Any, description: str) -> Any:
    """Return a field whose default is what another group says when a run is composed.

    Parameters
    ----------
    source : dotted path in the run, e.g. ``"train.loss"``; of a group that `edgeward.pipeline.schema.GROUPS` has before. ``<task>`` in it
        stands for the task of the data; where that has no such key, the default holds.
    default : what holds outside of a run.
    """
    return Field(default, description=description, json_schema_extra={"inherits": source})
