"""The `data` config group: a source, and how its cases become a data set.

A source states its `targets`: what it gives of every case, "classes" or "masks" or both.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, JsonValue, model_validator

from edgeward.core.config import Closed, Edges
from edgeward.data.volume_config import (
    VOLUMETRIC,
    DecathlonSource,
    DicomSource,
    GroupPattern,
    NiftiSource,
    Own,
    Pairs,
    Phantom3dSource,
    Positive,
    Relative,
    Stored,
    VolumeConfig,
)

Policy = Literal["refuse", "warn"]
PhantomFinding = Literal["network", "veil", "lacunae", "vessels", "milia", "dots", "scar", "scale"]
PhantomClass = Literal["akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"]
# The codes of HAM10000 (Tschandl et al. 2018, table 2), which the drawn set takes over.
LESIONS = {
    "akiec": "actinic keratosis, intraepithelial carcinoma",
    "bcc": "basal cell carcinoma",
    "bkl": "benign keratosis",
    "df": "dermatofibroma",
    "mel": "melanoma",
    "nv": "melanocytic nevus",
    "vasc": "vascular lesion",
}
Fraction = Annotated[float, Field(ge=0, le=1)]
Fit = Annotated[
    Literal["crop", "stretch", "pad"],
    Field(
        description="How an oblong image becomes square: crop (centre, true proportions), stretch (all of it, proportions "
        "bent, as in DermaMNIST), pad (all of it, black bars)."
    ),
]
MinSide = Annotated[
    int, Field(gt=0, description="An image whose shorter side has fewer pixels is invalid.")
]
Channels = Annotated[Literal[1, 3], Field(description="1: grey, 3: RGB.")]


class PhantomSource(Closed):
    """Dermoscopy drawn by `edgeward.data.phantom`: seven classes of skin lesion."""

    targets: ClassVar[tuple[str, ...]] = ("classes", "masks")

    kind: Literal["phantom"]
    n_train: Positive = Field(
        3000,
        description="Images drawn for train. More make a better model and a longer training; what a small CNN makes of 3000 is "
        "in docs/add-a-dataset.md.",
    )
    n_val: Positive = Field(
        2000,
        description="Images drawn for val. Temperature scaling and early stopping read it: some 20 of the rarest class are "
        "little enough.",
    )
    n_test: Positive = Field(
        20000,
        description="Images drawn for test. Large, since the verdict on the rarest class needs cases: 20000 hold 230 of it.",
    )
    prevalence: dict[PhantomClass, Annotated[float, Field(gt=0)]] = Field(
        {"akiec": 327, "bcc": 514, "bkl": 1099, "df": 115, "mel": 1113, "nv": 6705, "vasc": 142},
        min_length=2,
        description="Relative frequency of each class, the same in every split; its order is the label order. The default is "
        "the image counts of HAM10000.",
    )
    views: list[Annotated[float, Field(ge=0)]] = Field(
        [74, 19, 5, 2],
        min_length=1,
        description="Relative frequency of lesions with 1, 2, 3 .. images (HAM10000 has 1.34 images a lesion).",
    )
    overlap: float = Field(
        1.2,
        ge=0,
        le=4,
        description="Spread of the classes' traits. 0: every lesion is typical; 1: a small CNN nearly separates them (macro AUC "
        "0.98); 1.5: hard (0.90).",
    )
    hair: Fraction = Field(0.25, description="Share of images with hair across the lesion.")
    noise: float = Field(
        4.0, ge=0, le=64, description="Sensor noise, standard deviation in grey levels."
    )

    @model_validator(mode="after")
    def _some_lesion_has_an_image(self) -> PhantomSource:
        if sum(self.views) <= 0:
            raise ValueError("views: at least one weight must be above 0")
        return self


class Ham10000Source(Stored):
    """HAM10000 as published: two image parts (zip or folder), metadata CSV, lesion masks."""

    kind: Literal["ham10000"]
    path: Relative = Field("ham10000", description="Folder below the data root.")
    masks: Literal["use", "ignore"] = Field(
        "use",
        description="use: read the lesion masks too (masks.npy). ignore: the zip of masks is not needed.",
    )
    fit: Fit = "stretch"
    min_side: MinSide = 64

    @property
    def targets(self) -> tuple[str, ...]:
        """Diagnoses, and the masks of lesions if they are read."""
        return ("classes", "masks") if self.masks == "use" else ("classes",)


MULTI_LABEL = ("chestmnist",)
"""The sets of MedMNIST whose images may have several findings."""


class MedmnistSource(Stored):
    """A set of MedMNIST v2, images or volumes, from a local .npz or the publisher."""

    kind: Literal["medmnist"]
    path: Relative = Field(
        "medmnist",
        description="Folder below the data root that holds, or will hold, the .npz file.",
    )
    dataset: str = Field(pattern=r"^[a-z0-9]+$", description="Any name of medmnist.INFO.")
    size: Literal[28, 64, 128, 224] = Field(
        64,
        description="Published side to read: of images, pixels, resampled to `image_size`; of volumes (28 or 64) voxels, taken as 1 mm.",
    )
    download: bool = Field(
        True,
        description="Fetch the file from the publisher when it is not there; its MD5 is checked either way.",
    )

    @property
    def targets(self) -> tuple[str, ...]:
        """Findings or classes, by the set."""
        return ("findings",) if self.dataset in MULTI_LABEL else ("classes",)

    @property
    def volumetric(self) -> bool:
        """Whether it is a set of volumes."""
        return self.dataset.endswith("3d")

    @model_validator(mode="after")
    def _volumes_are_small(self) -> MedmnistSource:
        if self.volumetric and self.size > 64:
            raise ValueError(f"size: the volumes of {self.dataset} have 28 or 64 voxels a side")
        return self


class FindingsPhantomSource(Closed):
    """Dermoscopy drawn by `edgeward.data.phantom` with the structures that dermoscopists name as findings: a lesion has several, or
    none, and those of one diagnosis come together."""

    targets: ClassVar[tuple[str, ...]] = ("findings",)

    kind: Literal["phantom_findings"]
    n_train: Positive = Field(3000, description="Images drawn for train.")
    n_val: Positive = Field(
        2000, description="Images drawn for val, which thresholds may be set on."
    )
    n_test: Positive = Field(6000, description="Images drawn for test.")
    prevalence: dict[PhantomFinding, Annotated[float, Field(gt=0, lt=1)]] = Field(
        {
            "network": 0.45, "dots": 0.22, "milia": 0.11, "vessels": 0.06, "veil": 0.045, "scale": 0.03, "lacunae": 0.018,
            "scar": 0.012,
        },
        min_length=2,
        description="Share of the lesions that have each finding, the same in every split; its order is the label order.",
    )  # fmt: skip
    views: list[Annotated[float, Field(ge=0)]] = Field(
        [74, 19, 5, 2],
        min_length=1,
        description="Relative frequency of lesions with 1, 2, 3 .. images.",
    )
    overlap: float = Field(
        1.2,
        ge=0,
        le=4,
        description="Spread of the traits. 0: every structure that is there is equally strong; 2: hard.",
    )
    hair: Fraction = Field(0.25, description="Share of images with hair across the lesion.")
    noise: float = Field(
        4.0, ge=0, le=64, description="Sensor noise, standard deviation in grey levels."
    )

    @model_validator(mode="after")
    def _some_lesion_has_an_image(self) -> FindingsPhantomSource:
        if sum(self.views) <= 0:
            raise ValueError("views: at least one weight must be above 0")
        return self


Policy3 = Literal["refuse", "ignore", "zero", "one"]


class TableSource(Own):
    """Images with several findings each, by a table: one column that lists them, or one column for each. The layouts of ChestX-ray14,
    CheXpert, VinDr-CXR and PadChest are in docs/several-findings.md."""

    targets: ClassVar[tuple[str, ...]] = ("findings",)

    kind: Literal["table"]
    csv: Relative = Field(description="The table, below `path`; a row for each image (or reader).")
    images: list[str] = Field(
        ["."],
        min_length=1,
        description="Folders or zip archives of the images, below `path`: what the image column names lies in one of them.",
    )
    image: str = Field(
        "image", description="Column that names the image file, with or without its folder."
    )
    suffix: str = Field(
        "", description="What the name in the table lacks of the file's, e.g. `.dicom`."
    )
    group: str | None = Field(None, description="Column of the patient. null: see group_pattern.")
    group_pattern: GroupPattern = None
    split: str | None = Field(
        None, description="Column of the side (train, val or test), where the publisher gives one."
    )
    labels: str | None = Field(
        None,
        description="Column that lists the findings of an image. null: every finding has a column of its own, named in `findings`.",
    )
    separator: str = Field(
        "|",
        min_length=1,
        description="Between the findings in that column. Brackets and quotes about them are dropped.",
    )
    none: list[str] = Field(
        ["No Finding", "No finding", "normal"],
        description="What is said in that column of an image without any finding, as may be an empty cell.",
    )
    findings: list[str] | None = Field(
        None,
        min_length=1,
        description="Those that are predicted, in label order: columns of the table, or words of the `labels` column. null: all that the "
        "`labels` column lists, sorted.",
    )
    others: Literal["refuse", "drop"] = Field(
        "refuse",
        description="Words of the `labels` column that `findings` does not name: refuse, or drop (they are not predicted).",
    )
    uncertain: Policy3 = Field(
        "refuse",
        description="What -1 (uncertain) in the column of a finding counts as: ignore (neither learnt nor judged), zero (absent), one "
        "(present).",
    )
    missing: Policy3 = Field(
        "refuse",
        description="What an empty cell in the column of a finding counts as; in CheXpert it means: not mentioned.",
    )
    repeated: Literal["refuse", "any", "majority"] = Field(
        "refuse",
        description="Several rows of one image, as of several readers: any (a finding that one of them names is there), majority (more than "
        "half of them).",
    )
    columns: list[Annotated[str, Field(pattern=r"^[A-Za-z][\w /-]*$")]] = Field(
        [],
        description="Further columns of the table that go with the images, e.g. `[age, sex]`, for `strata`; empty cells are unknown.",
    )
    channels: Channels = 3
    fit: Fit = "crop"
    min_side: MinSide = 64

    @model_validator(mode="after")
    def _findings_are_somewhere(self) -> TableSource:
        if self.labels is None and self.findings is None:
            raise ValueError(
                "labels, findings: name the column that lists findings, or the columns of findings"
            )
        return self


MISSING = ["", "-", "?", "na", "n/a", "#n/a", "nan", "nat", "null", "none", "nil", "missing", "unknown"]  # fmt: skip


class Labelled(Own):
    """Files of your own, one label each, by class folder, split and class folder, or CSV."""

    targets: ClassVar[tuple[str, ...]] = ("classes",)

    layout: Literal["class_folders", "split_folders", "csv"] = Field(
        "class_folders",
        description="class_folders: <class>/*; split_folders: {train,val,test}/<class>/* (or Training, Validation, Testing); csv: a table with the columns "
        "path,label and, where known, group and split.",
    )
    csv: Relative | None = Field(
        None, description="The table, below `path`; null for the other layouts."
    )
    classes: list[str] | None = Field(
        None,
        description="Class order, e.g. `[normal, ill]`; null takes all that are found, sorted.",
    )
    missing: list[str] = Field(
        MISSING,
        description="What stands in the column label where nobody knows it; capitals and spaces around do not count. Such a case is unlabelled, "
        "unless `classes` has a class of that name.",
    )
    columns: list[Annotated[str, Field(pattern=r"^[A-Za-z][\w-]*$")]] = Field(
        [],
        description="Further columns of the table that go with the cases, e.g. `[age, sex]`, for `strata`; empty cells are unknown.",
    )
    group_pattern: GroupPattern = None

    @model_validator(mode="after")
    def _csv_belongs_to_its_layout(self) -> Self:
        if (self.layout == "csv") != (self.csv is not None):
            raise ValueError("csv: name a file for layout 'csv', and null for every other layout")
        if self.columns and self.csv is None:
            raise ValueError("columns: only a table has some; layout must be 'csv'")
        return self


class FolderSource(Labelled):
    """Image files of your own, by class folder, split and class folder, or CSV."""

    kind: Literal["folder"]
    channels: Channels = 3
    fit: Fit = "crop"
    min_side: MinSide = 64


class VolumeFolderSource(Labelled):
    """Volumes of your own, one label each, by class folder, split and class folder, or CSV."""

    kind: Literal["volume_folder"]
    files: Literal["nifti", "dicom"] = Field(
        "nifti",
        description="nifti: a .nii or .nii.gz for each case. dicom: a folder of slices for each case, which is what a path of the table names.",
    )


class PairsSource(Pairs):
    """Image files and their masks of your own, for segmentation in the plane."""

    kind: Literal["pairs"]
    mask_suffix: str = Field(
        "",
        description="What a mask's name has after its image's, e.g. _mask; apart from that and the file type, both have the same "
        "name and subfolder. Several masks of an image (_mask, _mask_1, ..) are united; masks may lie beside the images.",
    )
    group_pattern: GroupPattern = None
    channels: Channels = 3
    fit: Fit = "crop"
    min_side: MinSide = 64


class PythonSource(Closed):
    """A reader of your own: a module with ``open_source(request) -> Listing``, which says what it gives."""

    targets: ClassVar[tuple[str, ...]] = ("classes", "findings", "masks")

    kind: Literal["python"]
    module: str = Field(
        pattern=r"^[A-Za-z_][\w.]*$", description="Importable module that holds open_source."
    )
    options: dict[str, JsonValue] = Field(
        {}, description="Handed to open_source, which checks them."
    )


Source = Annotated[
    PhantomSource
    | Ham10000Source
    | MedmnistSource
    | FolderSource
    | PairsSource
    | TableSource
    | FindingsPhantomSource
    | PythonSource
    | Phantom3dSource
    | DecathlonSource
    | NiftiSource
    | DicomSource
    | VolumeFolderSource,
    Field(discriminator="kind", description="Where the cases come from."),
]


class GivenSplit(Closed):
    """Keep the sides that the source gives its images."""

    kind: Literal["given"]
    val: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Where the source has train and test only: the share of train that becomes val, dealt by groups and stratified. null: the "
        "source has all three.",
    )


class StratifiedSplit(Closed):
    """Draw the sides: stratified by class (masks: by the rarest class that they hold), never dividing a group."""

    kind: Literal["stratified"] = "stratified"
    train: float = Field(0.6, gt=0, lt=1, description="Share of the cases.")
    val: float = Field(0.15, gt=0, lt=1, description="Share of the cases.")
    test: float = Field(0.25, gt=0, lt=1, description="Share of the cases.")

    @model_validator(mode="after")
    def _shares_add_up(self) -> StratifiedSplit:
        if abs(self.train + self.val + self.test - 1) > 1e-6:
            raise ValueError("train, val and test must add up to 1")
        return self


class HeldOut(Closed):
    """Train nothing: all cases are new to the models, which are finished files. Some of them fix thresholds, all others are tested."""

    kind: Literal["held_out"]
    val: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="Share of the cases on which thresholds are fixed and the file's input is checked; never tested.",
    )


class Folds(Closed):
    """Cross-validation: as many sides as folds, drawn as stratified ones are. Seed k of a sweep tests on fold k, validates on the next, trains on
    all others; the verdict on a recipe is that on all cases, each decided by the network that has not seen it (docs/statistics.md)."""

    kind: Literal["folds"]
    folds: int = Field(
        5,
        ge=3,
        le=10,
        description="Their number; a sweep over all of them has the seeds 0 to folds - 1.",
    )


class Calibration(Closed):
    """The cases that quantization measures ranges on; drawn from train only."""

    n: Positive = Field(
        256, description="Cases; all of train when it has fewer. A few hundred are enough."
    )
    min_per_class: int = Field(
        4,
        ge=0,
        description="At least so many of each class (or stratum), where train has them, so that the ranges of rare ones are seen.",
    )


class RareByPrevalence(Closed):
    """Rare is what is seldom in train."""

    rule: Literal["prevalence"] = "prevalence"
    below: float = Field(
        0.05,
        gt=0,
        le=1,
        description="Share of train below which a class is rare; of masks, the share of cases that hold the class.",
    )


class RareByName(Closed):
    """Rare is what you say."""

    rule: Literal["named"]
    classes: list[str] = Field(description="Names of the classes.")


class Audit(Closed):
    """What counts as a leak between splits, and what to do about it: refuse (stop) or warn (note it in card.json)."""

    near_bits: int = Field(
        2,
        ge=0,
        le=16,
        description="Two images are near-identical if their 64-bit difference hashes (of volumes: of a 4x4x5 grid of means) "
        "differ in at most so many bits ..",
    )
    near_levels: float = Field(
        3.0,
        ge=0,
        le=64,
        description=".. and their 16x16 grey thumbnails (of volumes: 8x8x8) by at most so many grey levels on average.",
    )
    shared_groups: Policy = Field("refuse", description="One lesion or patient on two sides.")
    identical: Literal["refuse", "warn", "group"] = Field(
        "refuse",
        description="The same pixels on two sides. group: cases of the same pixels become one group before sides are dealt, where nobody knows "
        "the patients; sides that the source gives cannot be mended so, and are refused.",
    )
    near_identical: Policy = Field("warn", description="Almost the same picture on two sides.")
    contradictory: Policy = Field(
        "refuse",
        description="The same pixels with two labels or two masks, also within a group and on one side.",
    )
    copies: Policy = Field(
        "warn",
        description="The same pixels twice on one side: they count twice, and the intervals of the verdict become too narrow.",
    )


class Limits(Closed):
    """What one case may cost; what is beyond is refused by name, before it is read."""

    file_mib: Positive = Field(
        1024,
        description="A file as it lies on disk, MiB; not an archive, of whose parts each is a file.",
    )
    decoded_mib: Positive = Field(
        1024, description="A file once it is unpacked (gzip, zip, deflated DICOM, voxels), MiB."
    )
    pixels: Positive = Field(100_000_000, description="A picture, width times height.")
    voxels: Positive = Field(
        1 << 28, description="A volume, as it is stored and on the grid of `volume.spacing`."
    )
    resampling: float = Field(
        64.0,
        ge=1,
        description="How many times as many voxels as its file a volume may have on the grid of `volume.spacing`: more is invented, not measured.",
    )
    cases: Positive = Field(1_000_000, description="Files below a folder, rows of a table.")
    seconds: float = Field(
        300.0, gt=0, description="Reading one case, s, on a machine that may be busy."
    )


class Checks(Closed):
    """Values that are hardly meant; invalid ones are treated as `invalid` says, others are counted in card.json."""

    spacing: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = Field(
        (0.1, 20.0),
        description="Least and largest distance of neighbouring voxels that is believed, mm.",
    )
    constant: Literal["invalid", "keep"] = Field(
        "invalid",
        description="An image all of one value (all black, or a volume outside of the window).",
    )
    frames: Literal["invalid", "first"] = Field(
        "invalid",
        description="A file of several pictures (animation, pages of a TIFF): invalid, or the first is taken.",
    )
    lost: Fraction = Field(
        0.1,
        description="Share of a mask's foreground that `fit: crop` may cut away; less is counted, more is invalid.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Checks:
        if self.spacing[0] >= self.spacing[1]:
            raise ValueError("spacing: the least comes first")
        return self


class DataConfig(Closed):
    """One data set."""

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_]*$", description="Name of the folder of its results."
    )
    task: str = Field(
        "multiclass",
        pattern=r"^[a-z][a-z0-9_]*$",
        description="multiclass: one class per image. multilabel: several findings per image, or none. ordinal: one of several grades "
        "per image, mildest first in `source.classes`. segmentation: one label per pixel or voxel, from masks. Or another folder of "
        "src/edgeward/tasks/.",
    )
    seed: int = Field(
        20,
        ge=0,
        description="Of drawing, splitting and the calibration set. Of what is drawn, another seed is another data set.",
    )
    image_size: Annotated[int, Field(ge=16, le=1024)] | None = Field(
        None, description="Side of the square images (and masks), pixels; null for volumes."
    )
    volume: VolumeConfig | None = Field(
        None, description="Grid and intensity of volumes; null for images in the plane."
    )
    source: Source
    split: Annotated[
        GivenSplit | StratifiedSplit | Folds | HeldOut, Field(discriminator="kind")
    ] = StratifiedSplit()
    calibration: Calibration = Calibration()
    rare: Annotated[RareByPrevalence | RareByName, Field(discriminator="rule")] = Field(
        RareByPrevalence(), description="Which classes the safety verdict treats as rare."
    )
    critical: list[str] = Field(
        [],
        description="Classes in which a missed case harms the patient, e.g. the malignant ones: the safety verdict has an endpoint for "
        "each, however common it is.",
    )
    scarce: Literal["refuse", "leave_out"] = Field(
        "refuse",
        description="Findings that are not on every side of the split, since too few images have them: refuse (stop and name them) or "
        "leave_out (they are not predicted, which card.json says; their images stay).",
    )
    strata: dict[str, Edges | None] = Field(
        {},
        description="Subgroups of the test cases in which the verdict compares models, by the columns that the source gives: `{sex: null, "
        "age: [40, 60]}` takes one for each value, or bands of numbers.",
    )
    audit: Audit = Audit()
    limits: Limits = Limits()
    checks: Checks = Checks()
    invalid: Literal["refuse", "skip"] = Field(
        "refuse",
        description="Cases that are corrupt, too small, unlabelled or contradict their mask: refuse (stop and name them) or skip "
        "(leave them out, counted in card.json).",
    )

    @property
    def spatial_dims(self) -> int:
        """2 for images, 3 for volumes."""
        return 2 if self.volume is None else 3

    @model_validator(mode="after")
    def _images_or_volumes(self) -> DataConfig:
        kind = self.source.kind
        deep = kind in VOLUMETRIC or getattr(self.source, "volumetric", False)
        if (self.image_size is None) == (self.volume is None):
            raise ValueError("image_size, volume: give one of them, and null for the other")
        if kind != "python" and deep != (self.volume is not None):
            what = "volumes: set volume and" if deep else "images: set image_size and"
            other = "image_size" if deep else "volume"
            raise ValueError(f"source.kind '{kind}' gives {what} {other}: null")
        return self
