"""Stage ``export``: one file for a runtime, shown to compute what the compressed program computes."""

from __future__ import annotations

import logging
from pathlib import Path

from edgeward.core.errors import UserError
from edgeward.core.io import atomic
from edgeward.core.plugins import load
from edgeward.data.store import open_prepared
from edgeward.export import parity
from edgeward.export.metadata import metadata
from edgeward.models.program import load_program
from edgeward.records.recipe import Recipe
from edgeward.runtimes.base import ExportConfig, runtime

REMEDY = {
    True: "A network that hardly decides anything is flipped by rounding: train it longer (train.epochs), or take another recipe "
    "(qat_int8, or `keep_float` for the layers at fault); only then wider tolerances (config/export/).",
    False: "If an unusual layer is at fault, leave it out of the network or report it; only then wider tolerances (config/export/).",
}
log = logging.getLogger(__name__)


def run(
    cfg: ExportConfig, *, program: Path, recipe: Path, prepared: Path, out: Path, threads: int
) -> dict[str, float]:
    """Write ``model.onnx`` and ``parity.json`` into `out`.

    Parameters
    ----------
    program : ``model.pt2`` of the stage `compress`.
    recipe : its ``recipe.json``.
    prepared : folder of the prepared data; its validation split is compared on.
    threads : of the engine in the comparison.

    Returns
    -------
    Figures of the comparison, e.g. ``logit_error_max`` (logits), ``agreement`` (share).

    Raises
    ------
    UserError
        If the program cannot be exported, or the file is out of tolerance: ``parity.json``
        then holds the figures, and there is no ``model.onnx``.
    """
    data = open_prepared(prepared)
    made = Recipe.read(recipe)
    properties = metadata(made, data.card)
    loaded = load_program(program)
    where = "config/export/ (key 'runtime')"
    suffix = runtime(cfg.runtime, where).suffix
    target = out / f"model{suffix}"
    target.unlink(missing_ok=True)  # never an old model beside new figures
    with atomic(target) as temporary:
        load("edgeward.runtimes", cfg.runtime, "export", where).write(
            loaded, cfg, properties, temporary
        )
        forward = parity.torch_forward(loaded)
        result = parity.check(temporary, forward, data, made, cfg.parity, cfg.runtime, threads)
        result.write(out / "parity.json")
        if not result.passed or result.onnx_vs_torch is None:
            raise UserError(
                f"{target} does not compute what {program} computes, on {result.n} validation "
                f"images: {'; '.join(result.failures)}. {REMEDY[made.precision == 'int8']}"
            )
    found = result.onnx_vs_torch
    log.info(
        "parity on %d images: max |logit error| %.3g, mean %.3g (spread %.3g), agreement %.2f %%",
        result.n,
        found.max_abs,
        found.mean_abs,
        result.spread,
        100 * found.agreement,
    )
    metrics = parity.figures(found, result.spread, target)
    if result.sensitivity and result.fused_vs_unfused:
        metrics["sensitivity_mean"] = result.sensitivity.mean_abs
        metrics["fused_unfused_agreement"] = result.fused_vs_unfused.agreement
    return metrics
