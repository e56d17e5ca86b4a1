"""What the files of a runtime hold."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from edgeward.core.errors import UserError
from edgeward.core.io import read_json, write_json
from edgeward.core.plugins import load
from edgeward.runtimes.base import GraphFacts, runtime

NOTES = "graph.json"


def read_graph(name: str, path: Path, batch: int) -> GraphFacts:
    """Return the static facts of a file.

    Parameters
    ----------
    name : of the runtime that is to execute it. batch : images per inference.

    Raises
    ------
    UserError
        If the file is no valid model, or does not take one image input of this batch.
    """
    where = "config/profile/ (key 'engine.name')"
    part = load("edgeward.runtimes", runtime(name, where).file_of, "graph", where)
    facts: GraphFacts = part.read_graph(path, batch)
    return facts


def note(path: Path, facts: GraphFacts) -> None:
    """Write beside a file what it holds, for a format that only its own engine reads."""
    write_json(path.with_name(NOTES), asdict(facts))


def noted(path: Path) -> GraphFacts:
    """Return what `note` wrote beside a file."""
    return GraphFacts(**read_json(path.with_name(NOTES)))


def read_noted(path: Path, batch: int) -> GraphFacts:
    """Return what is noted of a file that takes a fixed number of images.

    Raises
    ------
    UserError
        If it is another one than `batch`.
    """
    facts = noted(path)
    if facts.input_shape[0] != batch:
        raise UserError(
            f"{path} takes {facts.input_shape[0]} image(s) at once, but {batch} are asked for; set `batch`, and leave "
            "`throughput.batches` empty, in the device's YAML in config/profile/."
        )
    return facts
