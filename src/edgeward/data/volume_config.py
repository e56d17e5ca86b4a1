"""Config of volumes and of their sources."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from edgeward.core.config import Closed


def _below(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not path or path.startswith("/") or ".." in parts:
        raise ValueError("a relative path that does not lead upwards is needed")
    return path


Relative = Annotated[str, AfterValidator(_below)]
Positive = Annotated[int, Field(gt=0)]
Millimetres = Annotated[float, Field(gt=0, le=100)]
Side = Annotated[int, Field(ge=16, le=512)]
Percent = Annotated[float, Field(ge=0, le=100)]
Labels = Annotated[
    dict[Annotated[int, Field(gt=0)], Annotated[str, Field(min_length=1)]],
    Field(
        min_length=1,
        description="Value in the mask file (segment number of a DICOM-SEG) -> class; 0 is background, several values may have "
        "one class. Black and white masks: `{255: lesion}`.",
    ),
]


GroupPattern = Annotated[
    str | None,
    Field(
        description="Regular expression on the file's name whose first bracket is the patient or lesion, e.g. "
        "`^(patient\\d+)_`. null: every case stands alone (or as a table of the source says), which leaks if patients have several."
    ),
]


class Stored(Closed):
    """A source that lies below the data root."""

    path: Relative = Field(description="Folder below the data root.")


class Own(Stored):
    """A source of your own, whose licence nobody knows but you."""

    licence: str = Field(
        "not stated",
        min_length=1,
        description="Licence of the images, for card.json and the report.",
    )
    citation: str = Field("", description="How to cite them, for card.json and the report.")


class ZScore(Closed):
    """Mean 0 and standard deviation 1 per volume and channel, clipped: for MR, where scanners differ."""

    kind: Literal["zscore"]
    clip: float = Field(
        4.0, gt=0, le=20, description="Standard deviations from the mean that 0 and 255 stand for."
    )
    region: Literal["all", "nonzero"] = Field(
        "all",
        description="Voxels that mean and deviation are of; nonzero where the background was set to 0.",
    )


class Percentile(Closed):
    """Between two percentiles of the volume, per channel, clipped."""

    kind: Literal["percentile"]
    low: Percent = Field(1.0, description="Percentile that becomes 0.")
    high: Percent = Field(99.0, description="Percentile that becomes 255.")
    region: Literal["all", "nonzero"] = Field(
        "all",
        description="Voxels that the percentiles are of; nonzero where the background was set to 0.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Percentile:
        if self.low >= self.high:
            raise ValueError("low must be below high")
        return self


class Window(Closed):
    """Between two fixed values, clipped: for CT, whose numbers have a meaning."""

    kind: Literal["window"]
    low: float = Field(-160, description="Value that becomes 0, for CT in Hounsfield units.")
    high: float = Field(240, description="Value that becomes 255.")

    @model_validator(mode="after")
    def _ordered(self) -> Window:
        if self.low >= self.high:
            raise ValueError("low must be below high")
        return self


class VolumeConfig(Closed):
    """The grid and the scale of intensity that all volumes are brought to."""

    spacing: tuple[Millimetres, Millimetres, Millimetres] = Field(
        description="Distance of neighbouring voxels, mm: to superior (between the slices of an axial series), anterior, right. "
        "Near the median of the files (source_spacing in card.json) little is lost; coarser is faster."
    )
    intensity: Annotated[ZScore | Percentile | Window, Field(discriminator="kind")] = Field(
        description="What 0 and 255 stand for."
    )
    mask: Literal["nearest", "linear"] = Field(
        "nearest",
        description="How masks are resampled. nearest: each voxel takes the nearest label. linear: each label's membership is "
        "interpolated and the largest wins, which keeps outlines smooth when the grid becomes finer.",
    )
    shape: tuple[Side, Side, Side] | None = Field(
        None,
        description="Voxels (superior, anterior, right) on that grid that every volume is brought to about its centre, cut or filled with 0, "
        "for tasks that label it as a whole; what is cut is counted in card.json. null: volumes keep their shape, for segmentation.",
    )
    min_side: int = Field(
        16,
        ge=8,
        description="A volume whose shortest side has fewer voxels on that grid is invalid.",
    )


class Phantom3dSource(Closed):
    """CT-like volumes drawn by `edgeward.data.volumes.phantom`: an organ, and lesions in some; as classes, healthy or lesion."""

    targets: ClassVar[tuple[str, ...]] = ("classes", "masks")

    kind: Literal["phantom3d"]
    n_train: Positive = Field(48, description="Volumes drawn for train.")
    n_val: Positive = Field(12, description="Volumes drawn for val.")
    n_test: Positive = Field(32, description="Volumes drawn for test.")
    shape: tuple[Side, Side, Side] = Field(
        (40, 64, 64), description="Voxels of a drawn file: to superior, anterior, right."
    )
    spacing: tuple[Millimetres, Millimetres, Millimetres] = Field(
        (3.0, 2.0, 2.0), description="Its voxels in mm, in the order of shape."
    )
    lesion_share: float = Field(0.5, gt=0, le=1, description="Share of volumes with lesions.")
    max_lesions: int = Field(
        3, ge=1, le=8, description="A volume with lesions has 1 to so many of them."
    )
    lesion_radius: tuple[Millimetres, Millimetres] = Field(
        (3.5, 8.0), description="Least and largest radius, mm."
    )
    contrast: float = Field(
        60.0,
        ge=1,
        le=500,
        description="How much darker a lesion is than the organ, Hounsfield units; at the level of the noise it is hard to see.",
    )
    noise: float = Field(
        20.0, ge=0, le=500, description="Standard deviation of the noise, Hounsfield units."
    )

    @model_validator(mode="after")
    def _radii_are_ordered(self) -> Phantom3dSource:
        if self.lesion_radius[0] > self.lesion_radius[1]:
            raise ValueError("lesion_radius: the least comes first")
        return self


class DecathlonSource(Own):
    """A task of the Medical Segmentation Decathlon as published, or folders laid out like one.

    Read are the pairs of dataset.json; without that file all pairs of the same name in imagesTr and labelsTr, or images
    and labels.
    """

    targets: ClassVar[tuple[str, ...]] = ("masks",)

    kind: Literal["decathlon"]
    labels: Labels | None = Field(
        None, description="Value in the mask -> class; null takes the names from dataset.json."
    )


class Pairs(Own):
    """A source with an image and a mask of each case in two folders."""

    targets: ClassVar[tuple[str, ...]] = ("masks",)

    images: Relative = Field("images", description="Folder of the images, below `path`.")
    masks: Relative = Field("masks", description="Folder of the masks, below `path`.")
    labels: Labels


class NiftiSource(Pairs):
    """Pairs of NIfTI files with the same name in two folders."""

    kind: Literal["nifti"]
    group_pattern: GroupPattern = None


class DicomSource(Pairs):
    """A folder of DICOM slices per case, and a mask per case: <case>.nii.gz, or <case>.dcm (DICOM-SEG)."""

    kind: Literal["dicom"]
    group: Literal["patient", "case"] = Field(
        "patient",
        description="patient: cases with the same PatientID stay on one side. case: every case stands alone.",
    )


VOLUMETRIC = ("phantom3d", "decathlon", "nifti", "dicom", "volume_folder")
