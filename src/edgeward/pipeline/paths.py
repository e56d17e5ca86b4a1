"""Where a candidate's results lie."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def checkpoint(data: str, model: str, seed: int, root: Path = Path("results")) -> Path:
    """Return where the trained weights of a model lie."""
    return root / data / model / f"s{seed}" / "train" / "model.pt"


def evidence(
    candidate: dict[str, Any], devices: Sequence[str], root: Path = Path("results")
) -> dict[str, Any]:
    """Return a candidate with the paths of all files that speak of it.

    Parameters
    ----------
    candidate : ``{"data", "model", "seed", "recipe"}``.
    devices : names of the devices on which it was profiled.
    root : the results folder.
    """
    data = root / candidate["data"]
    seed = data / candidate["model"] / f"s{candidate['seed']}"
    at = seed / candidate["recipe"]
    return {
        **candidate,
        "device": list(devices),
        "paths": {
            "card": data / "prepare" / "card.json",
            "history": seed / "train" / "history.csv",
            "recipe": at / "compress" / "recipe.json",
            "parity": at / "export" / "parity.json",
            "onnx": at / "export" / "model.onnx",
            "safety": at / "assess" / "safety.json",
            "verdict": at / "assess" / "verdict.json",
            "logits": at / "assess" / "logits.npy",  # classification
            "cases": at / "assess" / "cases.csv",  # segmentation, as the next three
            "lesions": at / "assess" / "lesions.csv",
            "reliability": at / "assess" / "reliability.csv",
            "predictions": at / "assess" / "predictions.npz",
            "assess_config": at / "assess" / "config.yaml",
            "profile": {device: at / "profile" / f"{device}.json" for device in devices},
        },
    }


def kept(task: str) -> tuple[str, ...]:
    """Name the paths of `evidence` that hold what `assess` keeps of every test case."""
    return (
        ("cases", "lesions", "reliability", "predictions")
        if task == "segmentation"
        else ("logits",)
    )


def scaled(
    models: Sequence[str], sizes: Sequence[int], device: str, root: Path = Path("results")
) -> list[tuple[Path, Path]]:
    """Return what is known of untrained networks at each size: (``build.json``, profile) pairs."""
    folders = [root / "scaling" / model / str(size) for model in models for size in sizes]
    return [(folder / "build.json", folder / f"{device}.json") for folder in folders]
