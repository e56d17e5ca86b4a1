"""Config of volumes and of their sources. Values and how to choose them: ``config/data/``."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from edgeward.core.config import Closed


def _below(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts:
        raise ValueError("a relative path that does not lead upwards is needed")
    return path


Relative = Annotated[str, AfterValidator(_below)]
Positive = Annotated[int, Field(gt=0)]
Millimetres = Annotated[float, Field(gt=0, le=100)]
Side = Annotated[int, Field(ge=16, le=512)]
Percent = Annotated[float, Field(ge=0, le=100)]
Labels = Annotated[
    dict[Annotated[int, Field(gt=0)], Annotated[str, Field(min_length=1)]],
    Field(min_length=1, description="value in the mask file -> class; 0 is background"),
]


class ZScore(Closed):
    """Mean 0 and standard deviation 1 per volume and channel, clipped."""

    kind: Literal["zscore"]
    clip: float = Field(gt=0, le=20, description="standard deviations that 0 and 255 stand for")
    region: Literal["all", "nonzero"] = Field(description="voxels that mean and deviation are of")


class Percentile(Closed):
    """Between two percentiles of the volume, per channel, clipped."""

    kind: Literal["percentile"]
    low: Percent
    high: Percent
    region: Literal["all", "nonzero"] = Field(description="voxels that the percentiles are of")

    @model_validator(mode="after")
    def _ordered(self) -> Percentile:
        if self.low >= self.high:
            raise ValueError("low must be below high")
        return self


class Window(Closed):
    """Between two fixed values, clipped: for CT, whose numbers have a meaning."""

    kind: Literal["window"]
    low: float = Field(description="value that becomes 0, e.g. Hounsfield units")
    high: float = Field(description="value that becomes 255")

    @model_validator(mode="after")
    def _ordered(self) -> Window:
        if self.low >= self.high:
            raise ValueError("low must be below high")
        return self


class VolumeConfig(Closed):
    """The grid and the scale of intensity that all volumes are brought to."""

    spacing: tuple[Millimetres, Millimetres, Millimetres] = Field(
        description="distance of neighbours, mm: to superior, anterior, right"
    )
    intensity: Annotated[ZScore | Percentile | Window, Field(discriminator="kind")]
    mask: Literal["nearest", "linear"] = Field(description="how masks are resampled")
    min_side: int = Field(ge=8, description="a volume with a shorter side, in voxels, is invalid")


class Phantom3dSource(Closed):
    """CT-like volumes drawn by `edgeward.data.volumes.phantom`."""

    targets: ClassVar[tuple[str, ...]] = ("masks",)

    kind: Literal["phantom3d"]
    n_train: Positive = Field(description="volumes drawn for train")
    n_val: Positive = Field(description="volumes drawn for val")
    n_test: Positive = Field(description="volumes drawn for test")
    shape: tuple[Side, Side, Side] = Field(description="voxels to superior, anterior, right")
    spacing: tuple[Millimetres, Millimetres, Millimetres] = Field(
        description="mm, in the order of shape"
    )
    lesion_share: float = Field(gt=0, le=1, description="share of volumes with lesions")
    max_lesions: int = Field(ge=1, le=8, description="a volume with lesions has 1 to so many")
    lesion_radius: tuple[Millimetres, Millimetres] = Field(description="least and largest, mm")
    contrast: float = Field(ge=1, le=500, description="lesion below organ, Hounsfield units")
    noise: float = Field(ge=0, le=500, description="standard deviation, Hounsfield units")

    @model_validator(mode="after")
    def _radii_are_ordered(self) -> Phantom3dSource:
        if self.lesion_radius[0] > self.lesion_radius[1]:
            raise ValueError("lesion_radius: the least comes first")
        return self


class DecathlonSource(Closed):
    """A task of the Medical Segmentation Decathlon as published, or folders laid out like one."""

    targets: ClassVar[tuple[str, ...]] = ("masks",)

    kind: Literal["decathlon"]
    path: Relative = Field(description="folder of the task below the data root")
    labels: Labels | None = Field(description="null: as in dataset.json")
    licence: str = Field(min_length=1, description="of the images, for the card")
    citation: str = Field(description="how to cite the images, for the card")


class NiftiSource(Closed):
    """Pairs of NIfTI files with the same name in two folders."""

    targets: ClassVar[tuple[str, ...]] = ("masks",)

    kind: Literal["nifti"]
    path: Relative = Field(description="folder below the data root")
    images: Relative = Field(description="folder of the images, below `path`")
    masks: Relative = Field(description="folder of the masks, below `path`")
    labels: Labels
    group_pattern: str | None = Field(
        description="regular expression on the case's name whose first bracket is the patient; "
        "null: every case is a patient of its own"
    )
    licence: str = Field(min_length=1, description="of the images, for the card")
    citation: str = Field(description="how to cite the images, for the card")


class DicomSource(Closed):
    """A folder of DICOM slices per case, and a mask per case."""

    targets: ClassVar[tuple[str, ...]] = ("masks",)

    kind: Literal["dicom"]
    path: Relative = Field(description="folder below the data root")
    images: Relative = Field(description="folder with a folder of slices per case, below `path`")
    masks: Relative = Field(description="folder of the masks, below `path`")
    labels: Labels
    group: Literal["patient", "case"] = Field(
        description="patient: cases with the same PatientID belong together; case: none do"
    )
    licence: str = Field(min_length=1, description="of the images, for the card")
    citation: str = Field(description="how to cite the images, for the card")


VolumeSource = Phantom3dSource | DecathlonSource | NiftiSource | DicomSource
VOLUMETRIC = ("phantom3d", "decathlon", "nifti", "dicom")
