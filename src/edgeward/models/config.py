"""The ``model`` config group: which network, and how it is built."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from edgeward.core.config import Closed

WEIGHTS_ROOT = "EDGEWARD_WEIGHTS_ROOT"
Channels = Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)]


def place(path: str) -> Path:
    """Return where a file lies that a config names: below the weights root, if that is set, else below the working directory."""
    return Path(os.environ.get(WEIGHTS_ROOT, "")) / path


class PublishedWeights(Closed):
    """What timm publishes for the architecture, through its usual download and cache."""

    kind: Literal["pretrained"]
    tag: str | None = Field(
        None,
        description="timm's name of the training, e.g. `in12k_ft_in1k` (`timm.list_pretrained()` lists them as architecture.tag); null: the default.",
    )


class FileWeights(Closed):
    """A file of weights: a state_dict (.pt, .pth, .bin), safetensors, or the ``model.pt`` of another study."""

    kind: Literal["file"]
    path: str = Field(
        min_length=1,
        description="Below the weights root (EDGEWARD_WEIGHTS_ROOT or --config weights_root=...), or in `package`.",
    )
    package: str | None = Field(
        None,
        pattern=r"^[A-Za-z_][\w.]*$",
        description="An installed Python package that holds the file; null: none does.",
    )
    rename: dict[str, str] = Field(
        {},
        description="Parameter names of the file -> those of the network, as regular expressions, each tried in turn on every name: "
        "`{'^features\\.': 'blocks.'}`; \"\" as the new name leaves a parameter out.",
    )
    classes: list[str] | None = Field(
        None,
        description="Names of the classes in the order of the file's head: then rows of it are kept by name. null: the head is drawn anew, "
        "unless the file is a ``model.pt``, which knows them.",
    )
    mean: Channels | None = Field(
        None,
        description="Per channel, scale 0-1, by which the weights expect images to be normalised; null: as timm says of the architecture, "
        "for a ``model.pt`` its own, else the mean of the training images.",
    )
    std: Channels | None = Field(None, description="The same for the standard deviation.")

    @property
    def whence(self) -> str:
        """Which package brings it, as a sentence; empty if none does."""
        return f"Install the package {self.package}, which brings it. " if self.package else ""

    @property
    def place(self) -> Path:
        """Where the file lies; without the package, where it would lie below the weights root."""
        found = find_spec(self.package) if self.package else None
        if found is None or found.origin is None:
            return place(self.path)
        return Path(found.origin).parent / self.path

    @model_validator(mode="after")
    def _mean_with_std(self) -> FileWeights:
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean, std: give both or neither")
        return self


AnyWeights = Annotated[PublishedWeights | FileWeights, Field(discriminator="kind")]


class Takes(Closed):
    """What a finished file takes and gives; its size and number of channels it says itself."""

    input_range: list[float] = Field(
        [0.0, 1.0],
        min_length=2,
        max_length=2,
        description="To what the grey levels 0 to 255 are mapped before they are normalised: `[0, 1]`, `[-1, 1]`, `[0, 255]`.",
    )
    mean: list[float] | None = Field(
        None,
        min_length=1,
        description="What is then subtracted, per channel, in the order of the file; null: nothing.",
    )
    std: Channels | None = Field(
        None, description="By what it is then divided, per channel; null: nothing."
    )
    order: Literal["rgb", "bgr"] = Field("rgb", description="Of the channels.")
    layout: Literal["nchw", "nhwc"] = Field(
        "nchw", description="Channels before or behind height and width."
    )
    gives: Literal["logits", "probabilities"] = Field(
        "logits", description="probabilities: the last operator is a softmax."
    )
    logit_shift: list[float] | None = Field(
        None,
        description="What is added to the logits before probabilities are taken, in the order of the outputs: of a network that was trained with "
        "logit adjustment, tau times the logarithm of the prior; null: nothing.",
    )
    output: str | None = Field(
        None, description="Name of the output, where there are several; null: the only one."
    )
    classes: list[str] | None = Field(
        None,
        description="Names of the classes, as the data call them, in the order of the outputs; null: that of the data.",
    )

    @model_validator(mode="after")
    def _fits(self) -> Takes:
        if self.input_range[0] >= self.input_range[1]:
            raise ValueError("input_range: the lower end comes first")
        if self.mean is not None and self.std is not None and len(self.mean) != len(self.std):
            raise ValueError("mean, std: give as many of the one as of the other")
        return self


class ModelConfig(Closed):
    """One network, or a finished file."""

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_]*$", description="Its name in results, reports and MLflow."
    )
    builder: Literal["timm", "edgeward", "onnx"] = Field(
        "timm",
        description="timm: any classification network of timm. edgeward: a file in src/edgeward/models/zoo/. onnx: none, it is a finished "
        "file, which is judged as it is.",
    )
    architecture: str = Field(
        "",
        description="The builder's name of the network (`timm.list_models()` lists them all), or the file in the zoo.",
    )
    file: str | None = Field(
        None,
        description="Of builder onnx: the ONNX file, below the weights root (EDGEWARD_WEIGHTS_ROOT or --config weights_root=...).",
    )
    takes: Takes | None = Field(
        None,
        description="What finished files of this network take and give; null: what they say themselves, as those of this project do.",
    )
    dense: bool = Field(
        False,
        description="Whether it gives logits for every pixel or voxel, not for the whole image; must fit the task of the data.",
    )
    family: Literal["cnn", "hybrid", "ssm", "other"] = Field(
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
    weights: AnyWeights | None = Field(
        None,
        description="What it starts from: `pretrained`, or a file; null: random weights. A head for other classes is drawn anew, the first "
        "layer is fitted to the channels, and the normalisation is the one that the weights expect (docs/trained-models.md).",
    )
    options: dict[str, bool | int | float | str | list[int]] = Field(
        {}, description="Further keyword arguments of the builder, e.g. `{drop_path_rate: 0.1}`."
    )

    @field_validator("weights", mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        """Let ``weights: pretrained`` stand for its kind."""
        return {"kind": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _built_or_finished(self) -> ModelConfig:
        finished = self.builder == "onnx"
        if finished and (self.file is None or self.architecture or self.weights is not None):
            raise ValueError(
                "builder 'onnx' is a finished file: name it under file, and leave architecture and weights out"
            )
        if not finished and (not self.architecture or self.file is not None):
            raise ValueError(
                f"builder '{self.builder}' needs an architecture, and no file (weights: {{kind: file, path: ...}} starts from one)"
            )
        return self

    @model_validator(mode="after")
    def _timm_looks_at_whole_images(self) -> ModelConfig:
        if self.dense and self.builder == "timm":
            raise ValueError(
                "dense is true, but the networks of timm give logits for the whole image"
            )
        return self
