"""Keys of the ``safety`` group: those of every assessment, and a section of each task's own."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, create_model

from edgeward.core import plugins
from edgeward.core.config import Closed, Edges, inherited
from edgeward.data.corruption import Corruption
from edgeward.tasks.base import task_names


class StudyConfig(Closed):
    """What every assessment reads, whatever the task."""

    reference: str = Field(
        "fp32",
        min_length=1,
        description="Recipe that every other recipe of the same data, model and seed is compared with.",
    )
    confidence_level: float = Field(
        0.95,
        ge=0.5,
        lt=1,
        description="Level of all intervals, two-sided. 0.95 tests non-inferiority at one-sided 2.5 %, the usual level in clinical "
        "trials; 0.90 would be one-sided 5 %.",
    )
    resamples: int = Field(
        2000,
        ge=200,
        le=100_000,
        description="Bootstrap resamples. 2000 leave an uncertainty of about 5 % of an interval's half width; 10000 for a "
        "publication.",
    )
    seed: int = Field(
        1998,
        ge=0,
        description="Seed of the resamples; verdicts near a margin should not depend on it (try another).",
    )
    power: float = Field(
        0.8,
        gt=0.5,
        lt=1,
        description='Chance of a pass that the "cases needed" of an inconclusive endpoint should give, if the compressed model '
        "really is as good as its reference.",
    )
    strata: dict[str, Edges | None] = inherited(
        "data.strata",
        {},
        "Subgroups of the test cases in which models are compared: column -> edges of bands of numbers, or null for one subgroup of "
        "each value; those of the data.",
    )
    stratum_groups: int = Field(
        30,
        ge=6,
        description="Independent groups (lesions, patients) that a subgroup must have: a smaller one is shown, says so, takes no part in "
        "the test of interaction, and cannot pass.",
    )
    stratum_margin: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None,
        description="If given, every subgroup is an endpoint, with this margin, on the task's first metric of subgroups (accuracy, mean "
        "Dice).",
    )
    corruptions: list[Corruption] = Field(
        [],
        description="Kinds of corrupted copies of test images on which both models are compared, too: does compression lose more where "
        "images are worse? `[noise, blur, brightness, darkness, contrast, jpeg, resolution]`; images in the plane only.",
    )
    severities: list[Annotated[int, Field(ge=1, le=5)]] = Field(
        [1, 2, 3, 4, 5],
        min_length=1,
        description="Of the corruptions (edgeward/data/corruption.py).",
    )
    corrupted_images: int = Field(
        2000,
        ge=100,
        description="About how many test images are corrupted, by class, at least 100 of each; every kind and severity is an inference "
        "over all of them.",
    )
    device_images: Annotated[int, Field(ge=100)] | None = Field(
        None,
        description="About how many test images the devices of `decide_on` (config/sweeps/) decide, by class, at least 100 of each; null: all.",
    )
    batch_size: int = Field(
        128, ge=1, description="Images per inference call; bounds the memory, changes no result."
    )
    overlap: float = Field(
        0.5,
        ge=0,
        lt=1,
        description="Share that neighbouring windows of a volume have in common; 0.5 is usual. More is smoother and slower.",
    )
    windows: int = Field(
        1,
        ge=1,
        description="Windows of a volume per inference call; bounds the memory, changes no result.",
    )


_MODELS = {
    name: plugins.load("edgeward.tasks", name, "config", "config/safety/").Safety
    for name in task_names()
}
_SECTIONS: dict[str, Any] = {name: (section, section()) for name, section in _MODELS.items()}
SafetyGroup = create_model(
    "SafetyGroup",
    __base__=StudyConfig,
    __doc__="The ``safety`` group; a stage reads the section of its own task.",
    **_SECTIONS,
)
