"""The `data` config group: which keys exist. Values and how to choose them: ``config/data/``.

A source states its `targets`: what it gives of every case, "classes" or "masks" or both.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, JsonValue, model_validator

from edgeward.core.config import Closed
from edgeward.data.volumes.config import (
    VOLUMETRIC,
    DecathlonSource,
    DicomSource,
    Labels,
    NiftiSource,
    Phantom3dSource,
    Positive,
    Relative,
    VolumeConfig,
)

Policy = Literal["refuse", "warn"]
Fit = Literal["crop", "stretch", "pad"]
PhantomClass = Literal["akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"]


Fraction = Annotated[float, Field(ge=0, le=1)]


class PhantomSource(Closed):
    """Images drawn by the generator in `edgeward.data.phantom`."""

    targets: ClassVar[tuple[str, ...]] = ("classes", "masks")

    kind: Literal["phantom"]
    n_train: Positive = Field(description="images drawn for train")
    n_val: Positive = Field(description="images drawn for val")
    n_test: Positive = Field(description="images drawn for test")
    prevalence: dict[PhantomClass, Annotated[float, Field(gt=0)]] = Field(
        min_length=2, description="relative frequency of each class; the same in every split"
    )
    views: list[Annotated[float, Field(ge=0)]] = Field(
        min_length=1, description="relative frequency of lesions with 1, 2, 3 ... images"
    )
    overlap: float = Field(ge=0, le=4, description="spread of the classes' traits; 0 is separable")
    hair: Fraction = Field(description="share of images with hair across")
    noise: float = Field(ge=0, le=64, description="sensor noise, standard deviation, grey levels")

    @model_validator(mode="after")
    def _some_lesion_has_an_image(self) -> PhantomSource:
        if sum(self.views) <= 0:
            raise ValueError("views: at least one weight must be above 0")
        return self


class Ham10000Source(Closed):
    """HAM10000 as published: two image parts (zip or folder), metadata CSV, lesion masks."""

    kind: Literal["ham10000"]
    path: Relative = Field(description="folder below the data root")
    masks: Literal["use", "ignore"] = Field(description="read the lesion masks into masks.npy")
    fit: Fit = Field(description="how an oblong image becomes square")
    min_side: Positive = Field(description="an image with a shorter side, in pixels, is invalid")

    @property
    def targets(self) -> tuple[str, ...]:
        """Diagnoses, and the masks of lesions if they are read."""
        return ("classes", "masks") if self.masks == "use" else ("classes",)


class MedmnistSource(Closed):
    """A 2-D single-label set of MedMNIST v2, from a local .npz or the publisher."""

    targets: ClassVar[tuple[str, ...]] = ("classes",)

    kind: Literal["medmnist"]
    path: Relative = Field(description="folder below the data root that holds the .npz files")
    dataset: str = Field(pattern=r"^[a-z0-9]+$", description="name in medmnist.INFO")
    size: Literal[28, 64, 128, 224] = Field(description="published image side to read, pixels")
    download: bool = Field(description="fetch the file from the publisher when it is not there")


class FolderSource(Closed):
    """Image files of your own, by class folder, split and class folder, or CSV."""

    targets: ClassVar[tuple[str, ...]] = ("classes",)

    kind: Literal["folder"]
    path: Relative = Field(description="folder below the data root")
    layout: Literal["class_folders", "split_folders", "csv"] = Field(
        description="<class>/*, {train,val,test}/<class>/*, or a CSV path,label[,group][,split]"
    )
    csv: Relative | None = Field(description="CSV file inside `path`; only for layout csv")
    classes: list[str] | None = Field(description="class order; null: all found, sorted")
    group_pattern: str | None = Field(
        description="regular expression on the file name whose first bracket is the patient or "
        "lesion; null: every image stands alone (or the CSV's group column)"
    )
    channels: Literal[1, 3] = Field(description="1: grey, 3: RGB")
    fit: Fit = Field(description="how an oblong image becomes square")
    min_side: Positive = Field(description="an image with a shorter side, in pixels, is invalid")
    licence: str = Field(min_length=1, description="licence of the images, for the card")
    citation: str = Field(description="how to cite the images, for the card")

    @model_validator(mode="after")
    def _csv_belongs_to_its_layout(self) -> FolderSource:
        if (self.layout == "csv") != (self.csv is not None):
            raise ValueError("csv: name a file for layout 'csv', and null for every other layout")
        return self


class PairsSource(Closed):
    """Image files and their masks of your own, for segmentation in the plane."""

    targets: ClassVar[tuple[str, ...]] = ("masks",)

    kind: Literal["pairs"]
    path: Relative = Field(description="folder below the data root")
    images: Relative = Field(description="folder of the images, below `path`")
    masks: Relative = Field(description="folder of the masks, below `path`")
    mask_suffix: str = Field(description="what a mask's name has after its image's, e.g. _mask")
    labels: Labels
    group_pattern: str | None = Field(
        description="regular expression on the image's name whose first bracket is the patient; "
        "null: every image stands alone"
    )
    channels: Literal[1, 3] = Field(description="1: grey, 3: RGB")
    fit: Fit = Field(description="how an oblong image becomes square")
    min_side: Positive = Field(description="an image with a shorter side, in pixels, is invalid")
    licence: str = Field(min_length=1, description="licence of the images, for the card")
    citation: str = Field(description="how to cite the images, for the card")


class PythonSource(Closed):
    """A reader of your own: a module with ``open_source(request) -> Listing``, which says what it gives."""

    targets: ClassVar[tuple[str, ...]] = ("classes", "masks")

    kind: Literal["python"]
    module: str = Field(
        pattern=r"^[A-Za-z_][\w.]*$", description="importable module that holds open_source"
    )
    options: dict[str, JsonValue] = Field(description="handed to open_source, which checks them")


Source = Annotated[
    PhantomSource
    | Ham10000Source
    | MedmnistSource
    | FolderSource
    | PairsSource
    | PythonSource
    | Phantom3dSource
    | DecathlonSource
    | NiftiSource
    | DicomSource,
    Field(discriminator="kind"),
]


class GivenSplit(Closed):
    """Keep the sides that the source gives its images."""

    kind: Literal["given"]


class StratifiedSplit(Closed):
    """Draw the sides: stratified by class, never dividing a group."""

    kind: Literal["stratified"]
    train: float = Field(gt=0, lt=1, description="share of images")
    val: float = Field(gt=0, lt=1, description="share of images")
    test: float = Field(gt=0, lt=1, description="share of images")

    @model_validator(mode="after")
    def _shares_add_up(self) -> StratifiedSplit:
        if abs(self.train + self.val + self.test - 1) > 1e-6:
            raise ValueError("train, val and test must add up to 1")
        return self


class Calibration(Closed):
    """The images that quantization sees; drawn from train only."""

    n: Positive = Field(description="images; all of train when it has fewer")
    min_per_class: int = Field(ge=0, description="at least so many of each class, where train has")


class RareByPrevalence(Closed):
    """Rare is what is seldom in train."""

    rule: Literal["prevalence"]
    below: float = Field(gt=0, le=1, description="share of train below which a class is rare")


class RareByName(Closed):
    """Rare is what you say."""

    rule: Literal["named"]
    classes: list[str]


class Audit(Closed):
    """What counts as a leak between splits, and what to do about it."""

    near_bits: int = Field(ge=0, le=16, description="64-bit dHash distance of near-identical")
    near_levels: float = Field(
        ge=0, le=64, description="and mean difference of their 16x16 thumbnails, grey levels"
    )
    shared_groups: Policy = Field(description="one lesion or patient on two sides")
    identical: Policy = Field(description="the same pixels on two sides")
    near_identical: Policy = Field(description="almost the same picture on two sides")


class DataConfig(Closed):
    """The `data` group."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_]*$", description="folder name under results/")
    task: str = Field(
        pattern=r"^[a-z][a-z0-9_]*$",
        description="multiclass: one class per image; segmentation: one label per pixel or voxel; or "
        "another folder of src/edgeward/tasks/",
    )
    seed: int = Field(ge=0, description="of drawing, splitting and the calibration set")
    image_size: Annotated[int, Field(ge=16, le=1024)] | None = Field(
        description="side of the square images, pixels; null for volumes"
    )
    volume: VolumeConfig | None = Field(
        description="grid and intensity of volumes; null for images in the plane"
    )
    source: Source
    split: Annotated[GivenSplit | StratifiedSplit, Field(discriminator="kind")]
    calibration: Calibration
    rare: Annotated[RareByPrevalence | RareByName, Field(discriminator="rule")]
    audit: Audit
    invalid: Literal["refuse", "skip"] = Field(
        description="images that are corrupt, too small, unlabelled: stop, or leave out and count"
    )

    @property
    def spatial_dims(self) -> int:
        """2 for images, 3 for volumes."""
        return 2 if self.volume is None else 3

    @model_validator(mode="after")
    def _images_or_volumes(self) -> DataConfig:
        kind = self.source.kind
        if (self.image_size is None) == (self.volume is None):
            raise ValueError("image_size, volume: give one of them, and null for the other")
        if kind != "python" and (kind in VOLUMETRIC) != (self.volume is not None):
            what = "volumes: set volume and" if kind in VOLUMETRIC else "images: set image_size and"
            other = "image_size" if kind in VOLUMETRIC else "volume"
            raise ValueError(f"source.kind '{kind}' gives {what} {other}: null")
        return self
