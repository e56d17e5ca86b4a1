"""Keys of the ``export`` group: those of the runtime that the file is written for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import Discriminator, Tag, TypeAdapter

from edgeward.runtimes.base import REFERENCE, ExportConfig
from edgeward.runtimes.config import models


def _runtime(values: Any) -> str:
    """Return for which runtime an export is: the reference, where nothing is said."""
    if isinstance(values, dict):
        return str(values.get("runtime", REFERENCE))
    return str(values.runtime)


if TYPE_CHECKING:
    AnyExport = ExportConfig
elif len(MODELS := models("Export")) == 1:
    (AnyExport,) = MODELS.values()
else:
    AnyExport = Annotated[
        Union[tuple(Annotated[model, Tag(name)] for name, model in MODELS.items())],  # noqa: UP007
        Discriminator(_runtime),
    ]


def port_config(values: Any) -> ExportConfig:
    """Return what says how a program is written for a runtime other than the reference."""
    found: ExportConfig = models("Port")[values["runtime"]].model_validate(values)
    return found


def export_config(values: Any) -> ExportConfig:
    """Return the group ``export`` as the config model of its runtime."""
    found: ExportConfig = TypeAdapter(AnyExport).validate_python(values)
    return found
