"""From what, with what and when a report was written."""

from __future__ import annotations

from pydantic import Field

from edgeward.records.base import Record


class Commit(Record):
    """The state of a git checkout."""

    commit: str = Field(description="SHA-1 or SHA-256 of the commit that is checked out.")
    dirty: bool = Field(
        description="Whether files differ from it, or are there that git neither knows nor ignores."
    )


class Provenance(Record):
    """From what, with what and when a report was written; never on which machine or by whom."""

    edgeward: str = Field(description="Version of the library.")
    date: str = Field(description="Day of the report, UTC; of SOURCE_DATE_EPOCH where that is set.")
    library: Commit | None = Field(
        description="Of the checkout that edgeward ran from; null where it is installed or there is no git."
    )
    study: Commit | None = Field(
        description="Of the working directory, where that is another checkout."
    )
    sweep_sha256: str = Field(description="Of the sweep: its axes, overrides and texts.")
    lock_sha256: str | None = Field(
        description="Of requirements.lock; null where edgeward is installed."
    )
    python: str
    system: str = Field(description="Operating system and its version, of the report's machine.")
    packages: dict[str, str] = Field(description="Installed distributions and their versions.")
