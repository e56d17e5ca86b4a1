"""Stages that have just finished: results as the rooms write them, posted into an outbox.

``python tracking_world.py ROOT DATA MODEL RECIPE...`` posts everything of some candidates, as one
of several jobs that run at once.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeward.core.io import write_json, write_yaml
from edgeward.records.base import Interval
from edgeward.records.safety import Bootstrap, Safety, Verdict, VerdictWord
from edgeward.tracking.entry import UsedData
from edgeward.tracking.outbox import StageEntry, post


def interval(value: float, spread: float = 0.02) -> Interval:
    return Interval.of(value, value - spread, value + spread)


def safety(metrics: dict[str, Interval]) -> Safety:
    """Metrics of a model without classes."""
    return Safety(
        format=Safety.FORMAT, task="multiclass", n={"test": 1}, classes=[], rare_classes=[],
        absent_classes=[], confidence_level=0.95, metrics=metrics, per_class=[], reliability={},
        confusion=[], labels=[], logit_shift=[], test_sha256="0" * 64,
    )  # fmt: skip


def decided(verdict: VerdictWord, differences: dict[str, Interval]) -> Verdict:
    """A verdict with its differences."""
    drawn = Bootstrap(
        resamples=200, seed=0, unit="group", strata="", groups=1, confidence_level=0.95
    )
    return Verdict(
        format=Verdict.FORMAT, reference="fp32", verdict=verdict, reasons=["because"], churn=None,
        endpoints=[], differences=differences, per_class=[], bootstrap=drawn,
    )  # fmt: skip


def write_onnx(path: Path, seed: int) -> None:
    """Write a real model: image (n, 3, 8, 8) -> mean over space -> linear -> logits (n, 3)."""
    weight = np.random.default_rng(seed).normal(size=(3, 3)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["flat"]),
            helper.make_node("MatMul", ["flat", "w"], ["logits"]),
        ],
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save_model(model, path)


class World:
    """One working directory: ``results/`` and an outbox."""

    def __init__(
        self, root: Path, data: str = "phantom", model: str = "small", seed: int = 0
    ) -> None:
        self.root, self.data, self.model, self.seed = Path(root), data, model, seed
        self.outbox = self.root / ".edgeward" / "outbox"

    def folder(self, *parts: str) -> Path:
        return self.root.joinpath("results", *parts)

    def at(self, recipe: str, stage: str) -> Path:
        return self.folder(self.data, self.model, f"s{self.seed}", recipe, stage)

    def entry(self, stage: str, folder: Path, **kwargs: Any) -> StageEntry:
        if stage != "report":
            kwargs.setdefault("data", self.data)
        if stage not in ("prepare", "report"):
            kwargs |= {"model": self.model, "seed": self.seed}
        config = kwargs.pop("config", {stage: {"lr": 1e-3, "milestones": [3, 5], "name": "x"}})
        folder.mkdir(parents=True, exist_ok=True)
        prefix = f"{kwargs['device']}." if stage == "profile" else ""
        write_yaml(folder / f"{prefix}config.yaml", config)
        kwargs.setdefault("metrics", {"wall_s": 1.5})
        write_json(folder / f"{prefix}metrics.json", kwargs["metrics"])
        kwargs.setdefault("finished_at", time.time())
        kwargs.setdefault("started_at", kwargs["finished_at"] - 10)
        kwargs.setdefault("artifacts", sorted(p for p in folder.rglob("*.*") if p.is_file()))
        kwargs.setdefault("datasets", [UsedData(self.data, "ab" * 32, stage)])
        return StageEntry(stage=stage, folder=folder, config=config, **kwargs)

    def post(self, entry: StageEntry) -> Path:
        return post(self.outbox, entry)

    def prepare(self) -> Path:
        folder = self.folder(self.data, "prepare")
        write_json(folder / "card.json", {"name": self.data})
        return self.post(self.entry("prepare", folder))

    def train(self, **kwargs: Any) -> Path:
        folder = self.folder(self.data, self.model, f"s{self.seed}", "train")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "history.csv").write_text("epoch,val_auc\n0,0.7\n1,0.8\n2,0.9\n")
        return self.post(self.entry("train", folder, **kwargs))

    def compress(self, recipe: str) -> Path:
        folder = self.at(recipe, "compress")
        write_json(folder / "recipe.json", {"recipe": recipe})
        return self.post(self.entry("compress", folder, recipe=recipe))

    def export(self, recipe: str, weights: int = 0) -> Path:
        folder = self.at(recipe, "export")
        write_onnx(folder / "model.onnx", weights)
        write_json(folder / "parity.json", {"max_abs_error": 1e-6})
        return self.post(self.entry("export", folder, recipe=recipe))

    def profile(
        self, recipe: str, p50: float = 3.0, device: str = "host", refused: str | None = None
    ) -> Path:
        folder = self.at(recipe, "profile")
        headline = {
            "threads": 1,
            "latency_ms": {"p50": interval(p50).content(), "p90": interval(1.2 * p50).content()},
            "peak_memory_mb": 12.0,
            "verdict": "VALID",
        }
        settings = [] if refused else [headline]
        write_json(folder / f"{device}.json", {"settings": settings, "refused": refused})
        return self.post(self.entry("profile", folder, recipe=recipe, device=device))

    def assess(self, recipe: str, verdict: VerdictWord = "pass", rare_recall: float = 0.6) -> Path:
        folder = self.at(recipe, "assess")
        names = ("auc_macro", "accuracy", "balanced_accuracy", "nll", "ece")
        found = {name: interval(0.8) for name in names} | {"rare_recall": interval(rare_recall)}
        safety(found).write(folder / "safety.json")
        decided(verdict, {"rare_recall": interval(-0.01)}).write(folder / "verdict.json")
        metrics = {"rare_recall": rare_recall, "auc_macro": 0.8}
        return self.post(self.entry("assess", folder, recipe=recipe, metrics=metrics))

    def assess_after_export(self, recipe: str) -> Path:
        self.export(recipe)
        return self.assess(recipe)

    def report(self, sweep: str = "default") -> Path:
        folder = self.folder("report", sweep)
        (folder / "figures").mkdir(parents=True, exist_ok=True)
        (folder / "index.html").write_text("<h1>report</h1>")
        (folder / "figures" / "a.svg").write_text("<svg/>")
        return self.post(self.entry("report", folder, sweep=sweep, datasets=[]))

    def candidate(self, recipe: str, verdict: VerdictWord = "pass", **kwargs: Any) -> None:
        self.compress(recipe)
        self.export(recipe, weights=len(recipe))
        self.profile(recipe)
        self.assess(recipe, verdict, **kwargs)


if __name__ == "__main__":
    place, data_name, model_name, *recipes = sys.argv[1:]
    world = World(Path(place), data_name, model_name)
    world.train()
    for one in recipes:
        world.candidate(one, "reference" if one == "fp32" else "pass")
