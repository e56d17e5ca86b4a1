"""What the shipped file says of itself: its metadata properties."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from edgeward.core.errors import UserError
from edgeward.core.io import digest
from edgeward.records.card import Card
from edgeward.records.recipe import Recipe
from edgeward.tasks.base import task

FORMAT = 1


def metadata(recipe: Recipe, card: Card) -> dict[str, Any]:
    """Return the metadata properties of ``model.onnx`` (see docs/architecture.md).

    Raises
    ------
    UserError
        If recipe and data belong to different tasks or classes.
    """
    meta = recipe.meta
    if meta.task != card.task:
        raise UserError(
            f"the model was trained for {meta.task}, the prepared data is for {card.task}: they "
            "belong to different runs."
        )
    if meta.classes != card.classes:
        raise UserError(
            f"the model was trained for the classes {meta.classes}, the prepared data has "
            f"{card.classes}: they belong to different runs."
        )
    packages = ("onnx", "onnxscript", "torch")
    return {
        "edgeward_format": FORMAT,
        "task": card.task,
        "data": meta.data,
        "model": meta.model,
        "recipe": recipe.recipe,
        "seed": meta.seed,
        "precision": recipe.precision,
        "classes": meta.classes,
        "input_range": card.input_range,
        "mean": meta.mean,
        "std": meta.std,
        "image_size": meta.image_size,
        "logit_shift": meta.logit_shift,
        **({} if task(card.task, "card.json").exclusive else {"exclusive": False}),
        "compression": {
            "steps": recipe.steps,
            "backend": recipe.backend,
            "scheme": recipe.scheme,
            "calibration": recipe.calibration.content(),
        },
        "versions": {**recipe.versions, **{name: version(name) for name in packages}},
        "data_sha256": digest(card.hashes),
    }
