"""What all records share: closed, written whole, refused in one sentence if they are of another version."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from edgeward.core.errors import UserError
from edgeward.core.io import plain, write_json

OLDER_TASKS = {"classification": "multiclass", "": "multiclass"}  # "": where a file named none
TaskName = Annotated[str, BeforeValidator(lambda name: OLDER_TASKS.get(name, name))]
"""Name of a task; older files have other ones."""


class Record(BaseModel):
    """A section of a record: a key that is not declared is an error."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, protected_namespaces=()
    )

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, content: Any) -> Any:
        """Take numpy values; NaN and infinities become None."""
        return plain(content) if isinstance(content, dict) else content

    def content(self) -> dict[str, Any]:
        """Return what JSON holds of it: the fields that were set."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


class File(Record):
    """A whole JSON file; `FORMAT` is its kind and version, under the key ``schema``.

    A version is raised when a field changes its meaning or goes away; then `upgrade` reads the older files or they
    are refused. `STAGE` writes it.
    """

    FORMAT: ClassVar[str]
    STAGE: ClassVar[str]

    format: str = Field(default="", alias="schema", description="Kind and version of the file.")

    @field_validator("format")
    @classmethod
    def _of_this_version(cls, value: str) -> str:
        if value != cls.FORMAT:
            raise ValueError(f"schema is {value!r}, and this version reads '{cls.FORMAT}'")
        return value

    @classmethod
    def upgrade(cls, content: dict[str, Any]) -> dict[str, Any]:
        """Return the content of an older file in today's form, as far as that is possible."""
        return content

    @classmethod
    def unversioned(cls, content: dict[str, Any], rest: str | None = None) -> dict[str, Any]:
        """Return the content of a file of the time before versions, for `upgrade`; of a later file as it is.

        Parameters
        ----------
        rest : the field that takes what stood beside today's fields; None: there was nothing.
        """
        if "schema" in content:
            return content
        if rest is None:
            return {"schema": cls.FORMAT, **content}
        known = {key: value for key, value in content.items() if key in cls.model_fields}
        others = {key: value for key, value in content.items() if key not in known}
        return {"schema": cls.FORMAT, **known, rest: others}

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file.

        Raises
        ------
        UserError
            If it is not there, is no JSON object, or is not of this format: one sentence, with path, key and stage.
        """
        path = Path(path)
        again = f"Run {cls.STAGE} again."
        try:
            content = json.loads(path.read_text())
        except FileNotFoundError:
            raise UserError(f"{path} is not there; the stage {cls.STAGE} writes it.") from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise UserError(f"{path} is not valid JSON: {error}. {again}") from None
        if not isinstance(content, dict):
            raise UserError(f"{path} must hold a JSON object. {again}")
        try:
            return cls.model_validate(cls.upgrade(content))
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"])) or "content"
            message = first["msg"].removeprefix("Value error, ")
            raise UserError(
                f"{path}: '{key}': {message} ({error.error_count()} in all). It was written by another version "
                f"of edgeward, or by hand. {again}"
            ) from None

    def content(self) -> dict[str, Any]:
        """Return what the file holds, ``schema`` first."""
        return {"schema": self.FORMAT, **super().content()}

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        write_json(path, self.content())


class Interval(Record):
    """An estimate with the ends of its interval; what does not exist (an absent class) is None."""

    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | float | None = Field(default=None, description="Cases behind it.")
    method: str | None = Field(default=None, description="How the interval was found.")
    design_effect: float | None = Field(
        default=None, description="By which the counts are divided, for clustered cases."
    )
    bootstrap: tuple[float | None, float | None] | None = Field(
        default=None,
        description="Limits of the bootstrap, where the interval is by another method.",
    )
    sd_seeds: float | None = Field(default=None, description="Standard deviation over seeds.")
    se_seeds: float | None = Field(default=None, description="Standard error from the seeds.")
    se_cases: float | None = Field(default=None, description="Standard error from the test cases.")
    freedom: float | None = Field(default=None, description="Degrees of freedom of Student's t.")

    @classmethod
    def of(cls, estimate: float, low: float, high: float, **more: Any) -> Self:
        """Build an interval; a limit never lies on the wrong side of the estimate by rounding."""
        return cls(
            estimate=float(estimate),
            low=float(min(low, estimate)),
            high=float(max(high, estimate)),
            **more,
        )

    @property
    def known(self) -> bool:
        """True where there is an estimate."""
        return self.estimate is not None

    @property
    def bounded(self) -> bool:
        """True where there are an estimate and both ends of its interval."""
        return None not in (self.estimate, self.low, self.high)

    def __iter__(self) -> Iterator[float]:  # type: ignore[override]
        """Yield estimate, low and high, NaN for what is unknown."""
        return (math.nan if v is None else v for v in (self.estimate, self.low, self.high))
