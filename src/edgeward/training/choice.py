"""Which task the data and the training settings ask for, if they fit together."""

from __future__ import annotations

import numpy as np

from edgeward.core.errors import UserError
from edgeward.data.store import Prepared
from edgeward.training.classification import Classification
from edgeward.training.config import DiceLossConfig, TrainConfig
from edgeward.training.dice import make_dense_loss
from edgeward.training.loss import logit_shift, make_loss, train_counts
from edgeward.training.segmentation import Segmentation
from edgeward.training.tasks import Task, layout_of


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
