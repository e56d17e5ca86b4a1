"""One entry of the outbox: what MLflow is told about one stage."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from edgeward.core.errors import UserError
from edgeward.core.io import read_json
from edgeward.tracking.row_metrics import RowMetrics

FORMAT = 2
CANDIDATE_STAGES = ("compress", "export", "profile", "assess", "decide")
STAGES = ("prepare", "train", *CANDIDATE_STAGES, "scaling", "report")
_NEEDS = {
    "prepare": ("data",),
    "train": ("data", "model", "seed"),
    **dict.fromkeys(CANDIDATE_STAGES, ("data", "model", "seed", "recipe")),
    **dict.fromkeys(("profile", "decide"), ("data", "model", "seed", "recipe", "device")),
    "scaling": ("model",),
    "report": ("sweep",),
}


def _now() -> float:
    return time.time()


@dataclass(kw_only=True)
class Identity:
    """What an entry or a curve is of."""

    stage: str
    data: str | None = None
    model: str | None = None
    seed: int | None = None
    recipe: str | None = None
    device: str | None = None
    sweep: str | None = None
    size: int | None = None

    def __post_init__(self) -> None:
        if self.stage not in STAGES:
            raise UserError(f"tracking entry: stage '{self.stage}' is none of {', '.join(STAGES)}.")
        missing = [name for name in _NEEDS[self.stage] if getattr(self, name) is None]
        if missing:
            raise UserError(f"tracking entry of '{self.stage}' lacks {', '.join(missing)}.")

    @property
    def of(self) -> dict[str, str | int | None]:
        """The fields of an identity, by name."""
        return {part.name: getattr(self, part.name) for part in fields(Identity)}

    @property
    def key(self) -> str:
        """Identity of stage x candidate, the same at every run of it."""
        if self.stage == "report":
            return f"report/{self.sweep}"
        if self.stage == "scaling":
            named = ["scaling", self.model, self.size, self.device]
            return "/".join(str(part) for part in named if part is not None)
        seed = None if self.seed is None else f"s{self.seed}"
        parts = [self.data, self.model, seed, self.recipe, self.stage, self.device]
        return "/".join(part for part in parts if part is not None)

    @property
    def candidate(self) -> str | None:
        """Key of the candidate that the stage belongs to; None if several candidates share it."""
        if self.stage not in CANDIDATE_STAGES:
            return None
        return f"{self.data}/{self.model}/s{self.seed}/{self.recipe}"

    @property
    def title(self) -> str:
        """Name of the stage's run."""
        parts: dict[str, tuple[object, ...]] = {
            "prepare": (self.data,),
            "train": (self.model, f"s{self.seed}"),
            "report": (self.sweep,),
            "scaling": (self.model, self.size, self.device),
            **dict.fromkeys(("profile", "decide"), (self.device,)),
        }
        named = (self.stage, *parts.get(self.stage, ()))
        return " ".join(str(part) for part in named if part is not None)


@dataclass(frozen=True)
class UsedData:
    """A data set that a stage read or made, `digest` of its images, and what for."""

    name: str
    digest: str
    context: str


@dataclass(kw_only=True)
class StageEntry(Identity):
    """What MLflow is told about one stage.

    Attributes
    ----------
    folder : results folder of the stage; ``mlflow.json`` is written there after delivery.
    config : the slice of the configuration that the stage read.
    metrics : name -> number; None and non-finite values are left out, with a note.
    artifacts : files to keep with the run. They are read at delivery, not at posting.
    started_at, finished_at : Unix time in seconds.
    status : "FINISHED" or "FAILED".
    entry_id : makes delivery exact: the run of an entry is found again by it.
    sequence, curve, row : set by `post`.
    """

    folder: Path
    config: Mapping[str, Any]
    metrics: Mapping[str, float] = field(default_factory=dict)
    artifacts: list[Path] = field(default_factory=list)
    datasets: list[UsedData] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    started_at: float = field(default_factory=_now)
    finished_at: float = field(default_factory=_now)
    status: str = "FINISHED"
    entry_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    sequence: int = 0
    curve: str | None = None
    row: RowMetrics = field(default_factory=RowMetrics)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.status not in ("FINISHED", "FAILED"):
            raise UserError(f"tracking entry: status '{self.status}' is not FINISHED or FAILED.")

    @property
    def receipt(self) -> Path:
        """The file that says which run the stage became."""
        name = f"{self.device}.mlflow.json" if self.device else "mlflow.json"
        return self.folder / name


def read_entry(path: Path) -> StageEntry:
    """Read an entry; its relative paths are resolved against the outbox.

    Raises
    ------
    UserError
        If the file is not a whole entry of this format.
    """
    try:
        content = read_json(path)
        if content.pop("format") != FORMAT:
            raise UserError(f"{path.name}: entry format is not {FORMAT}.")
        content.pop("key")
        root = path.resolve().parent
        content["folder"] = Path(os.path.normpath(root / content["folder"]))
        content["artifacts"] = [Path(os.path.normpath(root / p)) for p in content["artifacts"]]
        content["datasets"] = [UsedData(**used) for used in content["datasets"]]
        content["row"] = RowMetrics.read(content["row"])
        return StageEntry(**content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path.name} is not a tracking entry: {error!r}.") from error
