"""The training task of prepared data, from the folder of its task."""

from __future__ import annotations

import numpy as np
import torch

from edgeward.core import plugins
from edgeward.core.errors import UserError
from edgeward.data.store import Prepared
from edgeward.tasks.batches import Sampling
from edgeward.tasks.config import AnyLoss, PatchConfig
from edgeward.tasks.training import TrainingTask


def training_task(
    data: Prepared,
    loss: AnyLoss | None,
    *,
    patches: PatchConfig | None,
    layout: torch.memory_format = torch.contiguous_format,
    sampling: Sampling = "natural",
) -> TrainingTask:
    """Return what training does for the task of `data`.

    Parameters
    ----------
    loss : one of the task's; None is the mean cross entropy.

    Raises
    ------
    UserError
        If a class has no training image.
    """
    part = plugins.load("edgeward.tasks", data.task, "train", f"{data.root}/card.json")
    task: TrainingTask = part.training_task(
        data, loss, patches=patches, layout=layout, sampling=sampling
    )
    return task


def check_shift(task: TrainingTask, loss: AnyLoss, logit_shift: list[float]) -> None:
    """Refuse a loss that would move a trained model's logits away from the shift on record.

    Raises
    ------
    UserError
    """
    shift = np.asarray(logit_shift, dtype=np.float64)
    if not np.allclose(task.shift - task.shift.mean(), shift - shift.mean(), atol=1e-6):
        raise UserError(
            f"fine-tuning loss '{loss.name}' ({loss.model_dump(exclude={'name'})}) does not fit the trained "
            "model, whose logits have another shift: use the loss of the train config "
            "(loss: ${train.loss} in config/compress/), and natural sampling."
        )


def layout_of(memory_format: str, spatial_dims: int) -> torch.memory_format:
    """Return torch's memory format of the config key ``memory_format`` for images of 2 or 3 axes."""
    if memory_format == "contiguous":
        return torch.contiguous_format
    return torch.channels_last if spatial_dims == 2 else torch.channels_last_3d
