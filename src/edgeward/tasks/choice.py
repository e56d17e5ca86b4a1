"""Which task the data and the training settings ask for, if they fit together."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional

from edgeward.core.errors import UserError
from edgeward.data.store import Prepared
from edgeward.tasks.config import AnyLoss, PatchConfig
from edgeward.tasks.multiclass.config import LossConfig
from edgeward.tasks.multiclass.losses import Loss, logit_shift, make_loss, train_counts
from edgeward.tasks.multiclass.train import Classification
from edgeward.tasks.segmentation.config import DiceLossConfig
from edgeward.tasks.segmentation.losses import make_dense_loss
from edgeward.tasks.segmentation.train import Segmentation
from edgeward.tasks.training import Task, layout_of
from edgeward.training.config import TrainConfig


def make_task(data: Prepared, train: TrainConfig) -> tuple[Task, np.ndarray]:
    """Return the task of the data, and the logit shift of its loss, float64 (n_labels,).

    Raises
    ------
    UserError
        If the training settings are not for such data, or a class has no training image.
    """
    check_settings(data, train)
    layout = layout_of(train.memory_format)
    if isinstance(train.loss, DiceLossConfig):
        task = Segmentation(
            data,
            make_dense_loss(train.loss),
            train.loss.deep_supervision,
            train.patches,
            layout,
            train.sampling,
        )
        return task, np.zeros(data.n_labels)
    assert isinstance(train.loss, LossConfig)
    counts = train_counts(data)
    shift = logit_shift(train.loss, counts, train.sampling)
    return Classification(data, make_loss(train.loss, counts), shift, layout, train.sampling), shift


def check_settings(data: Prepared, train: TrainConfig) -> None:
    """Refuse a loss of the other task, and patches that the data do not need or do need."""
    name, dense = data.card["name"], isinstance(train.loss, DiceLossConfig)
    where = "choose another train config in the sweep's overrides, e.g. train="
    if dense != (data.task == "segmentation"):
        fits = "segmentation2d or train=segmentation3d" if not dense else "default"
        raise UserError(
            f"train.loss.name is '{train.loss.name}', but '{name}' is data for {data.task}; {where}{fits}."
        )
    if (train.patches is not None) != (data.spatial_dims == 3):
        raise UserError(
            f"train.patches is {'set' if train.patches else 'null'}, but '{name}' holds "
            f"{'volumes' if data.spatial_dims == 3 else 'images in the plane'}; {where}"
            f"segmentation{data.spatial_dims}d."
        )
    if data.spatial_dims == 3 and train.memory_format != "contiguous":
        raise UserError("train.memory_format must be 'contiguous' for volumes (config/train/).")


def criterion_of(data: Prepared, loss: AnyLoss, meta: dict[str, Any]) -> Loss:
    """Return the loss that goes on training the model of `meta`: of logits and labels, a scalar.

    Raises
    ------
    UserError
        If the loss is of the other task, or would move the logits away from their shift on record.
    """
    if isinstance(loss, DiceLossConfig) != (data.task == "segmentation"):
        raise UserError(
            f"fine-tuning loss '{loss.name}' is not for {data.task} ('{data.card['name']}'): use the "
            "loss of the train config (loss: ${train.loss} in config/compress/)."
        )
    if isinstance(loss, DiceLossConfig):
        return make_dense_loss(loss)
    assert isinstance(loss, LossConfig)
    counts = train_counts(data)
    check_shift(loss, counts, meta)
    return make_loss(loss, counts)


def task_of(
    data: Prepared,
    loss: AnyLoss,
    meta: dict[str, Any],
    criterion: Loss,
    layout: torch.memory_format,
) -> Task:
    """Return the task that the model of `meta` was trained for, with another criterion."""
    if isinstance(loss, DiceLossConfig):
        return Segmentation(data, criterion, loss.deep_supervision, patches_of(meta), layout)
    shift = np.asarray(meta["logit_shift"], dtype=np.float64)
    return Classification(data, criterion, shift, layout)


def plain_task(data: Prepared, meta: dict[str, Any]) -> Task:
    """Return the task with the mean cross entropy as its loss, whatever the model was trained with."""
    layout, criterion = torch.contiguous_format, functional.cross_entropy
    if data.task == "segmentation":
        return Segmentation(data, criterion, 0.0, patches_of(meta), layout)
    return Classification(data, criterion, np.asarray(meta["logit_shift"]), layout)


def patches_of(meta: dict[str, Any]) -> PatchConfig | None:
    """Return how the volumes were cut that the model of `meta` was trained on."""
    return None if meta["patches"] is None else PatchConfig.model_validate(meta["patches"])


def check_shift(loss: LossConfig, counts: np.ndarray, meta: dict[str, Any]) -> None:
    """Refuse a loss that would move the logits away from the shift on record in `meta`."""
    shift = np.asarray(meta["logit_shift"], dtype=np.float64)
    wanted = logit_shift(loss, counts)
    if not np.allclose(wanted - wanted.mean(), shift - shift.mean(), atol=1e-6):
        raise UserError(
            f"fine-tuning loss '{loss.name}' (tau {loss.tau}, beta {loss.beta}) does not fit "
            "the trained model, whose logits have another shift: use the loss of the train config "
            "(loss: ${train.loss} in config/compress/), and natural sampling."
        )
