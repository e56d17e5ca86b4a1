"""Time of the paired bootstrap: all metrics of two models, AUC and ECE included, on one core.

Run ``OMP_NUM_THREADS=1 python benchmarks/bootstrap.py`` (default: 2,000 resamples of 10,000 images x
7 classes, about two images per lesion, prevalences of HAM10000). Aim: under 5 s.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import time

import numpy as np

from edgeward.safety.comparison import assess
from edgeward.safety.config import SafetyGroup
from edgeward.statistics.bootstrap import resample
from edgeward.tasks.assessment import Cases
from edgeward.tasks.multiclass.assess import Arm

PREVALENCE = np.array([0.669, 0.111, 0.110, 0.051, 0.033, 0.014, 0.012])


def clock() -> np.ndarray:
    """Return wall and CPU time in seconds; they differ where other work takes the core."""
    return np.array([time.perf_counter(), time.process_time()])


def main() -> None:
    """Draw predictions and time each part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--resamples", type=int, default=2_000)
    args = parser.parse_args()
    cfg = SafetyGroup(resamples=args.resamples)
    section = cfg.multiclass

    rng = np.random.default_rng(0)
    classes = len(PREVALENCE)
    of_group = rng.choice(classes, args.images // 2, p=PREVALENCE / PREVALENCE.sum())
    groups = rng.integers(0, len(of_group), args.images)
    labels = of_group[groups]
    reference = rng.normal(size=(args.images, classes)) + 3.0 * np.eye(classes)[labels]
    compressed = reference + 0.1 * rng.normal(size=reference.shape)
    names = [f"class {k}" for k in range(classes)]
    cases = Cases(np.arange(args.images), labels, groups, names, ["class 5", "class 6"])

    started = clock()
    before, after = (
        Arm(cases, section, x, np.zeros(classes), 1.0) for x in (reference, compressed)
    )
    scored = clock()
    arms = {"reference": before, "compressed": after}
    resample(arms, labels, groups, cfg.resamples, cfg.seed)
    resampled = clock()
    verdict = assess(after, before, cfg)[1]
    print(f"{cfg.resamples} resamples x {args.images} images x {classes} classes x 2 models")
    print("                              wall     CPU")
    for name, span in (
        ("scores and estimates", scored - started),
        ("bootstrap of all metrics", resampled - scored),
        ("whole assessment, again", clock() - resampled),
    ):
        print(f"  {name:25s} {span[0]:6.2f}  {span[1]:6.2f} s")
    print(f"verdict: {verdict.verdict}")


if __name__ == "__main__":
    main()
