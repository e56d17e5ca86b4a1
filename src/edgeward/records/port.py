"""``port.json``: the network in a file of another runtime, or why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from edgeward.core.io import read_json
from edgeward.records.base import File


class Port(File):
    """What became of a program on its way to another engine; its figures are in ``file/parity.json``."""

    FORMAT: ClassVar[str] = "edgeward-port/1"
    STAGE: ClassVar[str] = "port"

    runtime: str
    file: str | None = Field(description="Name of the file; null: it is refused.")
    sha256: str | None = None
    refused: str | None = Field(default=None, description="Why there is no file.")


class Undecided(File):
    """Instead of ``safety.json`` and ``verdict.json`` of a device whose engine cannot take the model, or its reference."""

    FORMAT: ClassVar[str] = "edgeward-undecided/1"
    STAGE: ClassVar[str] = "decide"

    reason: str


def taken(paths: Sequence[Path], shipped: Path) -> tuple[Path, str | None]:
    """Return the file that a device takes of a candidate, or the one that ships and why the device takes none.

    Parameters
    ----------
    paths : the file that ships, or ``port.json`` and the folder of the file that it is about.
    """
    if list(paths) == [shipped]:
        return shipped, None
    port = Port.read(paths[0])
    return (shipped, port.refused) if port.file is None else (paths[1] / port.file, None)


def refusal(safety: Path) -> str | None:
    """Return why a device decided nothing, by what lies in place of its ``safety.json``; None: it did decide."""
    undecided = read_json(safety).get("schema") == Undecided.FORMAT
    return Undecided.read(safety).reason if undecided else None
