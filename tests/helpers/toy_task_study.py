"""The stages assess and pool with the toy task, in a process that finds it on its path."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from metric_tester import check_metrics
from small_data import write_small_prepared
from small_models import write_model

from edgeward.data.store import open_prepared
from edgeward.safety import pooled, stage
from edgeward.safety.config import SafetyGroup
from edgeward.tasks.assessment import Arm, Cases, arm_of


def main(folder: str) -> None:
    """Assess two seeds of two recipes, pool them, and test the metrics."""
    root = Path(folder)
    path = write_small_prepared(root / "data") / "card.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"task": "toy"}))
    data, cfg = open_prepared(path.parent), SafetyGroup(resamples=200)
    folders: dict[tuple[str, str], dict[int, Path]] = {}
    for seed in (0, 1):
        for recipe, scale in (("fp32", 1.0), ("int8", 0.9)):
            matrix = 0.02 * np.eye(3) + 0.01 * np.random.default_rng(seed).normal(size=(3, 3))
            model = write_model(
                root / "model.onnx", data, matrix * [1, scale, 1], np.zeros(3), task="toy"
            )
            out, reference = root / f"{recipe}-{seed}", root / f"fp32-{seed}"
            stage.run(
                cfg, model=model, prepared=data.root, out=out, threads=1,
                reference=None if recipe == "fp32" else reference,
            )  # fmt: skip
            folders.setdefault(("m", recipe), {})[seed] = out
    pooled.run(
        cfg, prepared=data.root, folders=folders, references={"m": "fp32"}, out=root / "pooled.json"
    )
    whole = Cases.of(data)
    decisions = np.random.default_rng(3).integers(0, 3, len(whole))
    kind = arm_of("toy", "here")

    def build(rows: np.ndarray) -> Arm:
        labels, groups = whole.labels[rows], whole.groups[rows]
        cases = Cases(np.arange(len(rows)), labels, groups, whole.classes, whole.rare_classes)
        # Of a plugin, which only this process has on its path.
        return kind(cases, cfg.toy, decisions[rows])  # type: ignore[call-arg, attr-defined]

    check_metrics(build, len(whole))
