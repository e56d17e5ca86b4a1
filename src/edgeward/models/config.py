"""The ``model`` config group: which network, and how it is built."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from edgeward.core.config import Closed


class ModelConfig(Closed):
    """One network."""

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_]*$", description="Its name in results, reports and MLflow."
    )
    builder: Literal["timm", "edgeward"] = Field(
        "timm",
        description="timm: any classification network of timm. edgeward: a file in src/edgeward/models/zoo/.",
    )
    architecture: str = Field(
        min_length=1,
        description="The builder's name of the network (`timm.list_models()` lists them all), or the file in the zoo.",
    )
    dense: bool = Field(
        False,
        description="Whether it gives logits for every pixel or voxel, not for the whole image; must fit the task of the data.",
    )
    family: Literal["cnn", "hybrid", "ssm"] = Field(
        description="Convolutions, convolutions with attention (hybrid), or state space (ssm); in figures."
    )
    drop_rate: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Dropout probability before the last layer. Raise it when validation loss climbs while training loss falls.",
    )
    branch_gain: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Initial gain of the branches beside an identity branch, for multi-branch blocks; 1: as the builder starts "
        "them. MobileOne learns several times faster below 1 (docs/experiments/branch_gain.md).",
    )
    options: dict[str, bool | int | float | str | list[int]] = Field(
        {}, description="Further keyword arguments of the builder, e.g. `{drop_path_rate: 0.1}`."
    )

    @model_validator(mode="after")
    def _timm_looks_at_whole_images(self) -> ModelConfig:
        if self.dense and self.builder == "timm":
            raise ValueError(
                "dense is true, but the networks of timm give logits for the whole image"
            )
        return self
