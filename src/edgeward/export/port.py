"""Stage ``port``: the same program in a file of another runtime, shown to compute the same, or why it cannot be.

A refusal is a finding about the engine, and no failure: it is recorded, and the stages below pass it on.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from edgeward.core.io import atomic, sha256
from edgeward.core.plugins import load
from edgeward.data.store import open_prepared
from edgeward.export import parity
from edgeward.export.metadata import metadata
from edgeward.models.program import load_program
from edgeward.records.port import Port
from edgeward.records.recipe import Recipe
from edgeward.runtimes.base import REFERENCE, ExportConfig, Unportable, runtime
from edgeward.runtimes.graph import note, read_graph

log = logging.getLogger(__name__)


def run(
    cfg: ExportConfig,
    *,
    program: Path,
    recipe: Path,
    prepared: Path,
    reference: Path,
    record: Path,
    files: Path,
    threads: int,
) -> dict[str, float]:
    """Write the file, what it holds and ``parity.json`` into `files`, and `record`.

    Parameters
    ----------
    program : ``model.pt2``. recipe : its ``recipe.json``. prepared : folder of the prepared data.
    reference : the file of the same program that ships, which says how much it multiplies.
    files : folder; without the file, if the engine cannot take the program or computes something else.
    threads : of the engine in the comparison.
    """
    data, made = open_prepared(prepared), Recipe.read(recipe)
    where = "config/profile/ (key 'engine.name')"
    facts = runtime(cfg.runtime, where)
    files.mkdir(parents=True, exist_ok=True)
    target = files / f"model{facts.suffix}"
    loaded = load_program(program)
    properties = metadata(made, data.card)
    metrics = {"refused": 0.0}
    try:
        with atomic(target) as temporary:
            operators = load("edgeward.runtimes", cfg.runtime, "export", where).write(
                loaded, cfg, properties, temporary
            )
            same = read_graph(REFERENCE, reference, 1)
            note(target, replace(same, operators=dict(operators), uncounted=[], node_macs={}))
            forward = parity.torch_forward(loaded)
            found = parity.check(temporary, forward, data, made, cfg.parity, cfg.runtime, threads)
            found.write(files / "parity.json")
            if found.onnx_vs_torch is not None:
                metrics |= parity.figures(found.onnx_vs_torch, found.spread, temporary)
            if not found.passed:
                raise Unportable(
                    f"{facts.title} does not compute what the program computes, on {found.n} validation images: "
                    f"{'; '.join(found.failures)}"
                )
    except Unportable as error:
        log.warning("%s: %s", facts.title, error)
        Port(runtime=cfg.runtime, file=None, refused=str(error)).write(record)
        return {**metrics, "refused": 1.0}
    Port(runtime=cfg.runtime, file=target.name, sha256=sha256(target)).write(record)
    return metrics
