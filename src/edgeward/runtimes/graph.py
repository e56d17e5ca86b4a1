"""What the files of a runtime hold."""

from __future__ import annotations

from pathlib import Path

from edgeward.core.plugins import load
from edgeward.runtimes.base import GraphFacts, runtime


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
