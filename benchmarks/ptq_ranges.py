"""How the choice of activation ranges decides what PTQ costs: ``python benchmarks/ptq_ranges.py --data ham10000 --models ..``.

For every trained network of a finished sweep: calibrated on the calibration images with each observer, and the integer graph judged on the
validation images (or, once, on the test images) against the uncompressed network. Nothing is exported or profiled.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from edgeward.compression import numerics
from edgeward.compression.constraint.acceptance import logits_of
from edgeward.compression.schemes import OBSERVERS
from edgeward.compression.steps.ptq_int8 import PtqInt8
from edgeward.compression.steps.reparameterize import Reparameterize
from edgeward.compression.workpiece import Workpiece
from edgeward.models.checkpoint import load_checkpoint
from edgeward.tasks.multiclass.train import macro_auc, recalls

FIELDS = ("data", "network", "seed", "ranges", "auc_macro", "balanced_accuracy", "logit_sqnr_db", "agreement", "cpu_s")  # fmt: skip


def score(logits: np.ndarray, labels: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Return what a model's decisions and scores are worth, and how they differ from the reference's."""
    shares = torch.softmax(torch.from_numpy(logits).double(), 1).numpy()
    called = logits.argmax(1)
    error = float(((logits - reference) ** 2).mean())
    return {
        "auc_macro": macro_auc(shares, labels),
        "balanced_accuracy": float(np.nanmean(recalls(called, labels, shares.shape[1]))),
        "logit_sqnr_db": 10 * float(np.log10((reference**2).mean() / error)) if error else np.inf,
        "agreement": float((called == reference.argmax(1)).mean()),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)  # fmt: skip
    parser.add_argument("--data", required=True, help="a folder below --results")
    parser.add_argument("--models", nargs="+", required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    ranges = ["auto", *OBSERVERS, *(f"{name}+bias" for name in OBSERVERS)]
    parser.add_argument(
        "--observers", nargs="+", default=ranges, help="+bias: with bias correction"
    )
    parser.add_argument("--split", choices=["val", "test"], default="val")
    parser.add_argument("--results", type=Path, default=Path("results"))
    options = parser.parse_args()
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(FIELDS)
    at = options.results / options.data
    for name in options.models:
        for seed in options.seeds:
            checkpoint = at / name / f"s{seed}" / "train" / "model.pt"
            for observer in ("fp32", *options.observers):
                module, meta = load_checkpoint(checkpoint)
                with tempfile.TemporaryDirectory() as work:
                    piece = Workpiece(module, meta, at / "prepare", seed, torch.get_num_threads(), Path(work), None)  # fmt: skip
                    since = time.process_time()
                    if observer == "fp32":
                        graph, indices = piece.uncompressed, piece.data.indices(options.split)
                        reference, label = logits_of(graph, piece.data, indices), observer
                    else:
                        Reparameterize(step="reparameterize").apply(piece)
                        kind, _, more = observer.partition("+")
                        settings = {"observer": kind, "bias_correction": more == "bias"}
                        step = PtqInt8.model_validate({"step": "ptq_int8"} | settings)
                        graph = step.convert(piece, step.calibrate(piece))
                        numerics.quantize_biases(graph)
                        label = (
                            observer
                            if kind != "auto"
                            else observer.replace("auto", f"auto ({step.chosen_observer(piece)})")
                        )
                        print(f"{name} s{seed}: {piece.found.get('ranges', '')}", file=sys.stderr)
                    spent = time.process_time() - since
                    found = score(logits_of(graph, piece.data, indices), piece.data.labels[indices], reference)  # fmt: skip
                row = [options.data, name, seed, label, *(f"{v:.4f}" for v in found.values())]
                out.writerow([*row, f"{spent:.1f}"])
                sys.stdout.flush()


if __name__ == "__main__":
    main()
