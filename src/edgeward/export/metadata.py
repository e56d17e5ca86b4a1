"""What the shipped file says of itself: its metadata properties."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from edgeward.core.errors import UserError, unknown

FORMAT = 1
PRECISIONS = ("fp32", "int8")
# Keys of recipe.json and of its meta, card.json, that the metadata is made of.
RECIPE_KEYS = ("recipe", "steps", "precision", "backend", "versions", "scheme", "calibration")
META_KEYS = ("model", "task", "classes", "mean", "std", "image_size", "patches", "logit_shift")


def _require(content: Mapping[str, Any], keys: tuple[str, ...], what: str) -> None:
    missing = [key for key in keys if key not in content]
    if missing:
        raise UserError(f"{what} lacks {', '.join(missing)}; run the stage that writes it again.")


def metadata(
    recipe: Mapping[str, Any], card: Mapping[str, Any], card_digest: str
) -> dict[str, Any]:
    """Return the metadata properties of ``model.onnx`` (see docs/architecture.md).

    Parameters
    ----------
    recipe : content of ``recipe.json``.
    card : content of ``card.json``.
    card_digest : digest of the prepared files' hashes.

    Raises
    ------
    UserError
        If a key is missing, or recipe and data belong to different classes.
    """
    _require(recipe, (*RECIPE_KEYS, "meta"), "recipe.json")
    meta = recipe["meta"]
    _require(meta, (*META_KEYS, "data", "seed"), "recipe.json: meta")
    if recipe["precision"] not in PRECISIONS:
        raise unknown("precision", str(recipe["precision"]), PRECISIONS, "recipe.json")
    _require(card, ("classes", "task", "input_range", "hashes"), "card.json")
    if meta["task"] != card["task"]:
        raise UserError(
            f"the model was trained for {meta['task']}, the prepared data is for {card['task']}: they "
            "belong to different runs."
        )
    if list(meta["classes"]) != list(card["classes"]):
        raise UserError(
            f"the model was trained for the classes {meta['classes']}, the prepared data has "
            f"{card['classes']}: they belong to different runs."
        )
    packages = ("onnx", "onnxscript", "torch")
    return {
        "edgeward_format": FORMAT,
        "task": card["task"],
        "data": meta["data"],
        "model": meta["model"],
        "recipe": recipe["recipe"],
        "seed": meta["seed"],
        "precision": recipe["precision"],
        "classes": meta["classes"],
        "input_range": card["input_range"],
        "mean": meta["mean"],
        "std": meta["std"],
        "image_size": meta["image_size"],
        "logit_shift": meta["logit_shift"],
        "compression": {key: recipe[key] for key in ("steps", "backend", "scheme", "calibration")},
        "versions": {**recipe["versions"], **{name: version(name) for name in packages}},
        "data_sha256": card_digest,
    }
