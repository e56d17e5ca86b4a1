"""Temperature scaling of a compressed network, inside the exported graph."""

from __future__ import annotations

import logging

import numpy as np
import torch
from torch import nn

from edgeward.compression.constraint.acceptance import logits_of
from edgeward.compression.workpiece import Workpiece
from edgeward.core.errors import UserError
from edgeward.models.program import export_program
from edgeward.statistics.temperature import fit_temperature, log_softmax

logger = logging.getLogger(__name__)


class Scaled(nn.Module):
    """A network whose logits are divided by a constant."""

    def __init__(self, inner: nn.Module, temperature: float) -> None:
        super().__init__()
        self.inner = inner
        self.temperature = temperature

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.inner(image) / self.temperature
        return logits


def scale(piece: Workpiece, largest: float) -> None:
    """Fit on the validation split, of the program if there is one, and change it; record both NLLs.

    Raises
    ------
    UserError
        If there is no validation image.
    """
    data = piece.data
    indices = data.indices("val")
    if not len(indices):
        raise UserError(
            f"{data.root}: temperature_scale is fitted on the validation split, which is empty; change "
            "data.split, or leave the step out."
        )
    shift = np.asarray(piece.meta.logit_shift, dtype=np.float64)
    model = piece.module if piece.program is None else piece.program.module()
    logits, labels = logits_of(model, data, indices), data.labels[indices]
    temperature = fit_temperature(logits, labels, shift, least=1 / largest, most=largest)
    if piece.program is None:
        piece.module = Scaled(piece.module, temperature).eval()
    else:
        piece.program = export_program(Scaled(model, temperature), piece.example)

    def nll(t: float) -> float:
        return float(-log_softmax(logits / t + shift)[np.arange(len(labels)), labels].mean())

    piece.effect = {
        "temperature": temperature,
        "split": "val",
        "n": len(labels),
        "nll_before": nll(1.0),
        "nll": nll(temperature),
    }
    piece.metrics["temperature"] = temperature
    logger.info(
        "temperature %.3f: validation NLL %.4f -> %.4f", temperature, nll(1.0), nll(temperature)
    )
