"""``failed/failure.json``: why a stage ended without its outputs; and what of a sweep is missing for that reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import Field, JsonValue

from edgeward.records.base import File


def label(stage: str, of: Mapping[str, str]) -> str:
    """Return the name of a job: its stage and what it is of."""
    return " ".join([stage, "/".join(of.values())])


class Failure(File):
    """A stage that failed, in the words that the terminal shows."""

    FORMAT: ClassVar[str] = "edgeward-failure/1"
    STAGE: ClassVar[str] = "that failed"

    stage: str
    of: dict[str, str] = Field(description="What the stage is of: data, model, seed, recipe, ..")
    reason: str = Field(
        description="Why, and what to change, in a sentence or two; of an error that nobody foresaw its type and message."
    )
    foreseen: bool = Field(description="Whether the reason is one that the user can put right.")
    log: str = Field(description="The whole story, with tracebacks.")
    kept: list[str] = Field(
        default_factory=list,
        description="Files beside this one that the stage had written before it failed.",
    )

    @property
    def label(self) -> str:
        """Name of the job."""
        return label(self.stage, self.of)

    @property
    def remedy(self) -> str:
        """What to do about it besides what the reason says."""
        if self.foreseen:
            return (
                "Mend it and run the same command again: only this, and what waits for it, is done."
            )
        return f"Nobody foresaw this one: {self.log} holds the traceback. The same command tries again."


@dataclass(frozen=True)
class Missing:
    """A candidate, or what one device says of it, that a sweep lacks because a stage failed.

    Attributes
    ----------
    device : None where the candidate as a whole is missing.
    stage : the first of its own stages that was not done.
    config : the slice of the configuration that this stage would have read.
    folder : of this stage.
    causes : the stages that failed: its own, one that it shares with others, or one of its reference.
    """

    data: str
    model: str
    seed: int
    recipe: str
    device: str | None
    stage: str
    config: dict[str, JsonValue]
    folder: Path
    causes: tuple[Failure, ...]

    @property
    def name(self) -> str:
        """The candidate in a line of the terminal."""
        return f"{self.model} {self.recipe}"

    @property
    def own(self) -> bool:
        """Whether a stage of this candidate itself failed."""
        return any(self._is_mine(cause) for cause in self.causes)

    def _is_mine(self, cause: Failure) -> bool:
        mine = {
            "data": self.data,
            "model": self.model,
            "seed": str(self.seed),
            "recipe": self.recipe,
        }
        return all(cause.of.get(key) == value for key, value in mine.items())

    @property
    def reason(self) -> str:
        """Why it is missing, in one line; of another candidate's failure whose it was."""
        return " ".join(self._because(cause) for cause in self.causes)

    def _because(self, cause: Failure) -> str:
        if self._is_mine(cause):
            return f"{cause.stage}: {cause.reason}"
        other = cause.of.get("recipe")
        if other is not None and (cause.of["data"], cause.of["model"]) == (self.data, self.model):
            return f"Not judged, for want of its reference: {other} failed in {cause.stage}: {cause.reason}"
        return f"Not begun: {cause.label} failed: {cause.reason}"
