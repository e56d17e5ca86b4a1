"""Whether a run's model and training are for the task of its data."""

from __future__ import annotations

from typing import Any

from edgeward.core.errors import UserError


def check_task(config: dict[str, Any], where: str) -> None:
    """Refuse a composed run whose model or training is for another task than its data.

    Parameters
    ----------
    config : from `edgeward.pipeline.compose.compose`.
    where : the file that put the run together.
    """
    data, model, train = config["data"], config["model"], config["train"]
    task, volumes = data["task"], data["volume"] is not None
    if model["dense"] != (task == "segmentation"):
        raise UserError(
            f"{where}: model '{model['name']}' has dense: {str(model['dense']).lower()}, but data "
            f"'{data['name']}' is for {task}; name another model or other data."
        )
    fits = f"segmentation{3 if volumes else 2}d" if task == "segmentation" else "default"
    advice = f'; add "train={fits}", or another file of config/train/ for such data, to overrides.'
    loss, patches = train["loss"]["name"], train["patches"]
    if (loss == "dice_cross_entropy") != (task == "segmentation"):
        raise UserError(
            f"{where}: data '{data['name']}' is for {task}, but train.loss.name is '{loss}'{advice}"
        )
    if volumes != (patches is not None):
        kind, state = ("volumes", "null") if volumes else ("images in the plane", "set")
        raise UserError(
            f"{where}: data '{data['name']}' holds {kind}, but train.patches is {state}{advice}"
        )
