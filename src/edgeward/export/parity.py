"""Does the file that ships compute what the PyTorch program computes?

How two runs are compared, and how far they may differ: `edgeward.runtimes.tolerance`. The sensitivity of an INT8
network is that of the program, in PyTorch alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from edgeward.core.errors import UserError
from edgeward.data.store import Prepared
from edgeward.records.parity import Agreement, Decided, Parity
from edgeward.records.recipe import Recipe
from edgeward.runtimes.parity import Forward, Judgement, compare, judge, run_all
from edgeward.runtimes.session import open_session
from edgeward.runtimes.tolerance import FileParityConfig
from edgeward.statistics.decisions import margin
from edgeward.tasks.base import task
from edgeward.tasks.inputs import Read, reader


def pick(prepared: Prepared, count: int) -> np.ndarray:
    """Return up to `count` indices spread evenly over the validation split, int64 ascending."""
    indices = prepared.indices("val")
    if not len(indices):
        raise UserError(f"{prepared.root} has no validation images to compare on.")
    places = np.linspace(0, len(indices) - 1, min(count, len(indices))).round().astype(int)
    return indices[places]


def batches(read: Read, indices: np.ndarray, batch: int) -> Iterator[np.ndarray]:
    """Yield the images of some indices, float32 (b, c, *spatial), a batch at a time."""
    for start in range(0, len(indices), batch):
        yield read(indices[start : start + batch])


def torch_forward(program: torch.export.ExportedProgram) -> Forward:
    """Return the program as a function of arrays."""
    module = program.module()

    def forward(image: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return module(torch.from_numpy(image)).numpy()

    return forward


def failures_of(judged: Judgement, parity: Parity, cfg: FileParityConfig) -> list[str]:
    """Return in what the file is out of tolerance: sentences with the figures."""
    spread, limit = f"(logit spread {parity.spread:.3g}", f"{judged.limit:.3g} allowed"
    failures = []
    if not judged.within and parity.precision != "int8":
        failures.append(
            f"the largest logit error is {judged.found:.3g}, {limit} {spread}); see export.parity.fp32"
        )
    elif not judged.within:
        assert parity.sensitivity is not None
        assert parity.unfused_vs_torch is not None
        unfused = parity.unfused_vs_torch.mean_abs
        culprit = (
            "an integer kernel of the engine disagrees with the graph (unfused error "
            if unfused <= judged.limit
            else "already the graph without fusion is off (error "
        )
        failures.append(
            f"the mean logit error is {judged.found:.3g}, {limit} {spread}, sensitivity "
            f"{parity.sensitivity.mean_abs:.3g}): {culprit}{unfused:.3g}); see export.parity.int8"
        )
    if not judged.decided:
        failures.append(
            f"{judged.alike:.1%} of {judged.clear} clearly decided images are decided alike, "
            f"{cfg.int8.decided_agreement:.1%} asked; see export.parity.int8.decided_agreement"
        )
    return failures


def figures(found: Agreement, spread: float, path: Path) -> dict[str, float]:
    """Return the flat metrics of a comparison, and the size of the file in MB."""
    return {
        "logit_error_max": found.max_abs,
        "logit_error_mean": found.mean_abs,
        "logit_spread": spread,
        "agreement": found.agreement,
        "file_mb": path.stat().st_size / 1e6,
    }


def batch_errors(
    forward: Forward, read: Read, indices: np.ndarray, logits: np.ndarray, sizes: list[int]
) -> dict[str, float]:
    """Run the first images at each batch size; return the largest difference to what they gave before."""
    errors = {}
    for size in sizes:
        count = min(size, len(indices))
        found = run_all(forward, [read(np.resize(indices[:count], size))])
        errors[str(size)] = float(np.abs(found - np.resize(logits[:count], found.shape)).max())
    return errors


def check(
    path: Path,
    given: Forward,
    prepared: Prepared,
    recipe: Recipe,
    cfg: FileParityConfig,
    runtime: str,
    threads: int,
) -> Parity:
    """Compare a file with what it was made from on real validation images.

    Parameters
    ----------
    path : the file. given : the program, or the file of somebody else, that it was made from. runtime : name of the one that it is written for.
    recipe : its precision says which tolerance applies, its meta what the model takes.
    threads : of the engine.
    """
    meta = recipe.meta
    dense = bool(meta.model["dense"])
    exclusive = task(meta.task, f"{prepared.root}/card.json").exclusive
    batch = cfg.dense_batch if dense else cfg.batch
    indices = pick(prepared, cfg.dense_images if dense else cfg.images)
    read = reader(prepared, meta, seed=0)
    session = open_session(path, threads, runtime=runtime)
    reference = run_all(given, batches(read, indices, batch))
    fused = run_all(session.run, batches(read, indices, batch))
    parity = Parity(
        passed=False,
        failures=["there are logits that are not finite: the model itself is broken"],
        precision=recipe.precision,
        n=len(indices),
        engine=dict([session.engine]),
        spread=float(reference.std()),
        median_margin=float(np.median(margin(reference, exclusive))),
        onnx_vs_torch=None,
        batches={},
        tolerance=cfg.model_dump(mode="json"),
    )
    if not (np.isfinite(reference).all() and np.isfinite(fused).all()):
        return parity
    agreement = compare(reference, fused, exclusive)
    if recipe.precision == "int8":
        shaken = run_all(given, batches(read, indices, batch), cfg.int8.perturbation)
        sensitivity = compare(reference, shaken, exclusive)
        as_written = open_session(path, threads, fused=False, runtime=runtime)
        unfused = run_all(as_written.run, batches(read, indices, batch))
        judged = judge(reference, fused, agreement, cfg.int8, sensitivity.mean_abs, exclusive)
        parity = parity.model_copy(
            update={
                "sensitivity": sensitivity,
                "unfused_vs_torch": compare(reference, unfused, exclusive),
                "fused_vs_unfused": compare(unfused, fused, exclusive),
                "limit": {
                    "mean_abs": judged.limit,
                    "decided_margin": cfg.int8.decided_margin * judged.limit,
                },
                "decided": Decided(n=judged.clear, agreement=judged.alike),
            }
        )
    else:
        judged = judge(reference, fused, agreement, cfg.fp32)
        parity = parity.model_copy(update={"limit": {"max_abs": judged.limit}})
    errors = batch_errors(session.run, read, indices, fused, cfg.batch_sizes)
    most = max(parity.limit.values())
    failures = [
        *failures_of(judged, parity, cfg),
        *(
            f"at batch {size} the logits are off by {error:.3g}"
            for size, error in errors.items()
            if not error <= most
        ),
    ]
    return parity.model_copy(
        update={
            "passed": not failures,
            "failures": failures,
            "onnx_vs_torch": agreement,
            "batches": errors,
        }
    )
