"""The config models of whichever runtimes there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import Field

from edgeward.core.plugins import load, names
from edgeward.runtimes.base import REFERENCE, EngineConfig


def models(attribute: str) -> dict[str, Any]:
    """Return runtime -> its config model of that name, `Engine` or `Export`, where it has one."""
    package = "edgeward.runtimes"
    found = {name: load("edgeward.runtimes", name, "config", package) for name in names(package)}
    return {name: getattr(m, attribute) for name, m in found.items() if hasattr(m, attribute)}


if TYPE_CHECKING:
    AnyEngine = EngineConfig
else:
    AnyEngine = Annotated[
        Union[tuple(models("Engine").values())],  # noqa: UP007 - not known before
        Field(discriminator="name", description="What executes the model."),
    ]
DEFAULT_ENGINE: EngineConfig = models("Engine")[REFERENCE]()
