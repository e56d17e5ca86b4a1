"""Whether the parts of a run fit together, by what they say of themselves."""

from __future__ import annotations

from typing import Any, get_args

from edgeward.core import plugins
from edgeward.core.errors import UserError, unknown
from edgeward.pipeline.compose import Roots, names
from edgeward.pipeline.schema import RunConfig
from edgeward.tasks.base import Task, task, task_names
from edgeward.tasks.config import AnyLoss


def check_fit(roots: Roots, config: dict[str, Any], where: str) -> None:
    """Refuse a composed run whose data, task, model, training and recipe do not fit together.

    Parameters
    ----------
    roots : the folders of config files.
    config : from `edgeward.pipeline.compose.compose`.
    where : the file that put the run together.

    Raises
    ------
    UserError
    """
    run = RunConfig.model_validate(config)
    data, model, train = run.data, run.model, run.train
    file = f"config/data/{data.name}.yaml"
    if data.task not in task_names():
        raise unknown("task", data.task, task_names(), f"{file} (key 'task')")
    its = task(data.task, file)
    kind = {2: "images in the plane", 3: "volumes"}[data.spatial_dims]
    if data.spatial_dims not in its.spatial_dims:
        raise UserError(f"{file}: task is '{its.name}', which is not there yet for {kind}.")
    if its.target not in data.source.targets:
        raise UserError(
            f"{file}: task '{its.name}' needs {its.target}, but source.kind '{data.source.kind}' gives "
            f"{' and '.join(data.source.targets)}; change task, source, or what is read from it."
        )
    if data.volume is not None and (data.volume.shape is None) != its.dense:
        need = "null: volumes keep their shape" if its.dense else "set: [depth, height, width]"
        raise UserError(f"{file}: for task '{its.name}' volume.shape must be {need}.")
    if run.safety.corruptions and (data.spatial_dims == 3 or its.dense):
        raise UserError(
            f"{where}: safety.corruptions is set, which is for decisions on images in the plane; data "
            f"'{data.name}' holds {kind} for task '{its.name}'. Leave it empty."
        )
    if model.dense != its.dense:
        raise UserError(
            f"{where}: model '{model.name}' has dense: {str(model.dense).lower()} "
            f"(config/model/{model.name}.yaml), but task '{its.name}' of data '{data.name}' needs "
            f"{str(its.dense).lower()}; name another model or other data."
        )
    finished = run.compress.file is not None
    if finished and data.spatial_dims == 3:
        raise UserError(
            f"{where}: recipe '{run.compress.name}' is a finished file, which is taken for images in the plane only; data "
            f"'{data.name}' holds {kind}."
        )
    if model.builder == "onnx" and not finished:
        raise UserError(
            f"{where}: model '{model.name}' is a finished file (builder: onnx), and recipe '{run.compress.name}' has steps, which need a network "
            "that is built here; name recipes that take files (as_given takes the model's, as_given_int8 quantizes it)."
        )
    if model.builder == "onnx":
        return
    others = (
        f"; name another file of config/train/ ({', '.join(names(roots, 'train'))}) in overrides."
    )
    _check_loss(its, train.loss, f"{where}: train.loss", others)
    cut = data.spatial_dims == 3 and its.dense
    if (train.patches is None) == cut:
        state = "null" if train.patches is None else "set"
        raise UserError(
            f"{where}: data '{data.name}' holds {kind}, which task '{its.name}' takes {'in patches' if cut else 'whole'}, but train.patches is "
            f"{state}{others}"
        )
    for number, step in enumerate(run.compress.steps):
        at = f"config/compress/{run.compress.name}.yaml: steps[{number}]"
        for capability in step.needs:
            if capability in its.unsupported:
                raise UserError(
                    f"{at} ({capability}) is not for task '{its.name}' of data '{data.name}': "
                    f"{its.unsupported[capability]}; leave it out, or name another recipe in {where}."
                )
        if (finetune := getattr(step, "finetune", None)) is not None:
            hint = "; use that of training, ${train.loss}."
            _check_loss(its, finetune.loss, f"{at}.finetune.loss", hint)


def _check_loss(its: Task, loss: AnyLoss, key: str, hint: str) -> None:
    known = plugins.load("edgeward.tasks", its.name, "config", key).LOSSES
    if not isinstance(loss, known):
        allowed = [name for k in known for name in get_args(k.model_fields["name"].annotation)]
        raise UserError(
            f"{key}.name is '{loss.name}', which is not of task '{its.name}'; allowed: "
            f"{', '.join(allowed)}{hint}"
        )
