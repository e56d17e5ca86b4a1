"""Every path of results, logs and state, spelled once.

A class stands for the folder of one stage and is made from what the stage is of: ``Train("phantom", "dscnn", 0).checkpoint``
is a file. Asked of the class itself, ``Train.checkpoint``, the same is the pattern with Snakemake's wildcards that a rule
names. All paths are relative to the working directory, or to `root`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

STATE = Path(".edgeward")
OUTBOX = STATE / "outbox"
WORK = STATE / "work"
CLOSURES = STATE / "closures.json"
LAST_RUN = STATE / "last_run.json"
DELIVERY_LOG = Path("logs/tracking.log")
WORKER_LOG = Path("logs/worker.log")
SYNC_LOG = Path("logs/tracking_sync.log")

_MODEL = "{data}/{model}/s{seed}"
_CANDIDATE = f"{_MODEL}/{{recipe}}"


class File:
    """A path of a stage: `Stage.RESULTS` or `Stage.LOG`, and an ending, with its fields filled in."""

    def __init__(self, name: str, start: str = "RESULTS") -> None:
        self.name, self.start = name, start

    def __get__(self, stage: Stage | None, kind: type[Stage]) -> Path:
        fields = vars(kind() if stage is None else stage)
        return fields["root"] / f"{getattr(kind, self.start)}{self.name}".format(**fields)


@dataclass(frozen=True)
class Stage:
    """What all stages leave: their slice, flat metrics and a log."""

    RESULTS: ClassVar[str]
    LOG: ClassVar[str]
    root: Path = field(default=Path(), kw_only=True)

    folder = File("")
    config = File("/config.yaml")
    metrics = File("/metrics.json")
    log = File(".log", "LOG")

    @staticmethod
    def failure(metrics: Path) -> Path:
        """Return where it is told why the stage that was to write these metrics failed."""
        return metrics.parent / "failed" / metrics.name.replace("metrics.json", "failure.json")


@dataclass(frozen=True)
class _OnDevice(Stage):
    """A stage of which each device has a file of its own in one folder."""

    record = File("/{device}.json")
    config = File("/{device}.config.yaml")
    metrics = File("/{device}.metrics.json")


@dataclass(frozen=True)
class _OfModel(Stage):
    data: str = "{data}"
    model: str = "{model}"
    seed: int | str = "{seed}"


@dataclass(frozen=True)
class _OfCandidate(_OfModel):
    recipe: str = "{recipe}"


@dataclass(frozen=True)
class Prepare(Stage):
    """A prepared data set."""

    RESULTS = "results/{data}/prepare"
    LOG = "logs/{data}/prepare"
    data: str = "{data}"

    images = File("/images.npy")
    labels = File("/labels.npy")
    split = File("/split.csv")
    calibration = File("/calibration.csv")
    card = File("/card.json")
    montage = File("/montage.png")
    masks = File("/masks.npy")  # where every pixel or voxel has a label
    volumes = File("/volumes.csv")  # of volumes


@dataclass(frozen=True)
class Fold(Stage):
    """One turn of a cross-validation: a prepared data set that shares the arrays of the whole one."""

    RESULTS = "results/{data}/prepare/fold{fold}"
    LOG = "logs/{data}/fold{fold}"
    data: str = "{data}"
    fold: int | str = "{fold}"

    split = File("/split.csv")
    calibration = File("/calibration.csv")
    card = File("/card.json")


@dataclass(frozen=True)
class Train(_OfModel):
    """A trained model."""

    RESULTS = f"results/{_MODEL}/train"
    LOG = f"logs/{_MODEL}/train"

    checkpoint = File("/model.pt")
    history = File("/history.csv")


@dataclass(frozen=True)
class Compress(_OfCandidate):
    """A compressed model."""

    RESULTS = f"results/{_CANDIDATE}/compress"
    LOG = f"logs/{_CANDIDATE}/compress"

    program = File("/model.pt2")
    record = File("/recipe.json")


@dataclass(frozen=True)
class Export(_OfCandidate):
    """The file that ships."""

    RESULTS = f"results/{_CANDIDATE}/export"
    LOG = f"logs/{_CANDIDATE}/export"

    onnx = File("/model.onnx")
    parity = File("/parity.json")


@dataclass(frozen=True)
class Port(_OfCandidate):
    """The same network in a file of another runtime, or why it cannot be one."""

    RESULTS = f"results/{_CANDIDATE}/export/{{runtime}}"
    LOG = f"logs/{_CANDIDATE}/port-{{runtime}}"
    runtime: str = "{runtime}"

    record = File("/port.json")
    files = File("/file")  # folder of the file and what it holds; empty if it is refused


@dataclass(frozen=True)
class Profile(_OfCandidate, _OnDevice):
    """Measurements on a device."""

    RESULTS = f"results/{_CANDIDATE}/profile"
    LOG = f"logs/{_CANDIDATE}/profile-{{device}}"
    device: str = "{device}"


@dataclass(frozen=True)
class Assess(_OfCandidate):
    """What the shipped file finds on the test split."""

    RESULTS = f"results/{_CANDIDATE}/assess"
    LOG = f"logs/{_CANDIDATE}/assess"

    cases = File("/cases")  # folder of what is kept of every case, in files that the task names
    safety = File("/safety.json")
    verdict = File("/verdict.json")


@dataclass(frozen=True)
class Decide(Assess):
    """The same where a device decides."""

    RESULTS = f"results/{_CANDIDATE}/decide/{{device}}"
    LOG = f"logs/{_CANDIDATE}/decide-{{device}}"
    device: str = "{device}"


@dataclass(frozen=True)
class Ceilings(_OnDevice):
    """The best that a device can do."""

    RESULTS = "results/devices"
    LOG = "logs/devices/{device}"
    device: str = "{device}"

    kernels = File(
        "/{device}.kernels.json"
    )  # which grows with the networks that recipes are placed for, so no rule's output


@dataclass(frozen=True)
class Scaling(Stage):
    """An untrained network at one input size."""

    RESULTS = "results/scaling/{model}/{size}"
    LOG = "logs/scaling/{model}/{size}"
    model: str = "{model}"
    size: int | str = "{size}"

    build = File("/build.json")
    export = File(
        "/export"
    )  # folder of its file and parity, which a network that takes no such size has not


@dataclass(frozen=True)
class ScalingProfile(Scaling, _OnDevice):
    """Measurements of an untrained network on a device."""

    LOG = "logs/scaling/{model}/{size}-{device}"
    device: str = "{device}"


@dataclass(frozen=True)
class Interleave(_OnDevice):
    """Candidates of a sweep timed in turns."""

    RESULTS = "results/report/{sweep}/interleaved"
    LOG = "logs/report/{sweep}/interleave-{device}"
    sweep: str = "{sweep}"
    device: str = "{device}"


@dataclass(frozen=True)
class Pool(Stage):
    """The seeds of a sweep, pooled on one data set."""

    RESULTS = "results/report/{sweep}/pooled"
    LOG = "logs/report/{sweep}/pool-{data}"
    sweep: str = "{sweep}"
    data: str = "{data}"

    record = File("/{data}.json")
    config = File("/{data}.config.yaml")
    metrics = File("/{data}.metrics.json")


@dataclass(frozen=True)
class Report(Stage):
    """The page of a sweep."""

    RESULTS = "results/report/{sweep}"
    LOG = "logs/report/{sweep}"
    sweep: str = "{sweep}"

    page = File("/index.html")
    comparison = File("/comparison.csv")
    comparison_json = File("/comparison.json")
    scaling = File("/scaling.csv")
    figures = File("/figures")
    tables = File("/tables")
    checklists = File("/checklists")


@dataclass(frozen=True)
class ResultPaths:
    """Where everything that speaks of one candidate lies; a profile on each of `devices`, decisions on each of `deciding`."""

    data: str
    model: str
    seed: int
    recipe: str
    devices: tuple[str, ...] = ()
    deciding: tuple[str, ...] = ()
    root: Path = field(default=Path(), kw_only=True)

    @property
    def prepare(self) -> Prepare:
        return Prepare(self.data, root=self.root)

    @property
    def train(self) -> Train:
        return Train(self.data, self.model, self.seed, root=self.root)

    @property
    def compress(self) -> Compress:
        return Compress(self.data, self.model, self.seed, self.recipe, root=self.root)

    @property
    def export(self) -> Export:
        return Export(self.data, self.model, self.seed, self.recipe, root=self.root)

    def port(self, runtime: str) -> Port:
        return Port(self.data, self.model, self.seed, self.recipe, runtime, root=self.root)

    @property
    def assess(self) -> Assess:
        return Assess(self.data, self.model, self.seed, self.recipe, root=self.root)

    @property
    def decided(self) -> dict[str, Decide]:
        """Device -> where what it decided lies."""
        of = self.data, self.model, self.seed, self.recipe
        return {device: Decide(*of, device, root=self.root) for device in self.deciding}

    @property
    def profiles(self) -> dict[str, Path]:
        """Device -> record of the measurements on it."""
        of = self.data, self.model, self.seed, self.recipe
        return {device: Profile(*of, device, root=self.root).record for device in self.devices}

    @property
    def configs(self) -> dict[str, Path]:
        """Stage, and device -> the slice of the configuration that it read; a finished file has none of train and compress."""
        of = self.data, self.model, self.seed, self.recipe
        stages = self.prepare, self.train, self.compress, self.export, self.assess
        found = {type(stage).__name__.lower(): stage.config for stage in stages}
        for device in self.devices:
            found[f"profile {device}"] = Profile(*of, device, root=self.root).config
        return found | {f"decide {device}": at.config for device, at in self.decided.items()}
