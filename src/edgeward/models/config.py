"""The ``model`` config group: which network, and how it is built."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edgeward.core.config import Closed


class ModelConfig(Closed):
    """One network, built from scratch; values come from ``config/model/<name>.yaml``."""

    name: Annotated[
        str,
        Field(
            pattern=r"^[a-z0-9][a-z0-9_]*$", description="name of the model in results and reports"
        ),
    ]
    builder: Annotated[
        Literal["timm", "edgeward"],
        Field(description="who builds it: timm by name, or a file in src/edgeward/models/zoo/"),
    ]
    architecture: Annotated[str, Field(min_length=1, description="the builder's name for it")]
    dense: Annotated[
        bool, Field(description="whether it gives logits for every pixel, not for the image")
    ]
    family: Annotated[
        Literal["cnn", "hybrid", "ssm"],
        Field(description="convolutions, convolutions with attention, or state space; in figures"),
    ]
    drop_rate: Annotated[
        float, Field(ge=0, lt=1, description="dropout probability before the last layer")
    ]
    branch_gain: Annotated[
        float,
        Field(
            gt=0, le=1, description="initial gain of branches that run beside an identity branch"
        ),
    ]
    options: Annotated[
        dict[str, bool | int | float | str | list[int]],
        Field(description="further keyword arguments of the builder"),
    ]
