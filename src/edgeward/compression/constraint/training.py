"""Fine-tuning under the constraint: a Lagrangian whose multipliers follow what is violated.

Minimised over the weights and maximised over the multipliers m >= 0 is ``loss + sum_k m_k g_k``, with
gradient descent on the one and projected gradient ascent on the other (Arrow, Hurwicz & Uzawa 1958).
What the weights feel is ``max(m_k + penalty g_k, 0)`` in place of m_k: the augmented Lagrangian of
inequalities (Rockafellar, J. Optim. Theory Appl. 12, 1973), whose second part answers a violation at
once and is gone with it, where ascent alone is late and then overshoots.
Balancing Act (Hashemizadeh et al., ICLR 2024, arXiv 2310.20673) prunes under such constraints on
group accuracy; here they are recalls of rare classes and calibration.
"""

from __future__ import annotations

import logging
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from edgeward.compression.constraint.limits import Limits
from edgeward.compression.workpiece import Workpiece
from edgeward.core.errors import UserError
from edgeward.data.store import Prepared
from edgeward.tasks.augment import augment
from edgeward.tasks.batches import read, stream, to_float
from edgeward.tasks.config import AugmentConfig
from edgeward.training.config import ConstraintConfig, FinetuneConfig

logger = logging.getLogger(__name__)
# Of random numbers; 1 and 2 are the training's own.
PURPOSES = {"train": 3, "val": 5}
AUGMENTATION = 4


def constrain(piece: Workpiece, cfg: FinetuneConfig) -> SafetyConstraint | None:
    """Return what `finetune` takes as its constraint; None if the config asks for none."""
    if cfg.constraint is None:
        return None
    limits = Limits.of(cfg.constraint, piece.data, piece.meta)
    return SafetyConstraint(
        limits, cfg.constraint, cfg.augment, piece.data, piece.uncompressed, piece.seed
    )


class Multipliers:
    """One multiplier per constraint, kept in [0, `largest`].

    Parameters
    ----------
    count : number of constraints.
    rate : step of the ascent, per unit of violation.
    penalty : what a violation weighs beside its multiplier, per unit; 0 is the plain Lagrangian.

    Attributes
    ----------
    values : the multipliers, float64 of shape (count,).
    weights : what the weights feel: multiplier and penalty, within the same limits.
    """

    def __init__(self, count: int, rate: float, largest: float, penalty: float = 0.0) -> None:
        self.values = torch.zeros(count, dtype=torch.float64)
        self.weights = self.values
        self.rate = rate
        self.penalty = penalty
        self.largest = largest

    def ascend(self, violations: torch.Tensor) -> None:
        """Move along the gradient of the Lagrangian, which is the violations, and project."""
        self.values = (self.values + self.rate * violations).clamp(0.0, self.largest)
        self.weights = (self.values + self.penalty * violations).clamp(0.0, self.largest)


def balanced_batch(
    data: Prepared, split: Literal["train", "val"], size: int, seed: int, step: int
) -> np.ndarray:
    """Return the images of a constraint batch: equally many of every class that the split holds; of findings, of each, and of none.

    A function of seed and step alone. Without replacement, unless a class has too few images.

    Raises
    ------
    UserError
        If `size` leaves fewer than two images for a class, or the split lacks a rare class.
    """
    pool = data.indices(split)
    held = data.held(pool)
    held = np.column_stack([held, ~held.any(axis=1)]) if data.findings is not None else held
    classes = held.shape[1]
    each = size // classes
    if each < 2:
        raise UserError(
            f"finetune.constraint.batch_size is {size}, which is fewer than two images for each of "
            f"{classes} classes; set it to {2 * classes} or more in config/compress/."
        )
    rng = np.random.default_rng(stream(seed, step, PURPOSES[split]))
    absent = [n for n in data.card.rare_classes if not held[:, data.classes.index(n)].any()]
    if absent:
        raise UserError(
            f"{data.root}: the split '{split}' has no image of {', '.join(absent)}, so the constraint "
            "cannot be measured there; set finetune.constraint.multipliers_from to train, or change "
            "data.split."
        )
    chosen = []
    for mine in (pool[of_class] for of_class in held.T if of_class.any()):
        chosen.append(rng.choice(mine, size=each, replace=len(mine) < each))
    return np.concatenate(chosen)


class SafetyConstraint:
    """The constraint as `finetune` uses it.

    Gradients come from training images, changed by the same augmentation as the others, since the
    network has never seen these very pixels and errs on them. The multipliers follow the violations on
    those images, or on validation images, which the weights are not fitted to: two data sets, as in
    Cotter et al., "Training Well-Generalizing Classifiers for Fairness Metrics" (ICML 2019). The
    uncompressed network sees the same batch, so its values are of the same images.
    """

    def __init__(
        self,
        limits: Limits,
        cfg: ConstraintConfig,
        changes: AugmentConfig,
        data: Prepared,
        uncompressed: nn.Module,
        seed: int,
    ) -> None:
        self.limits = limits
        self.cfg = cfg
        self.every = cfg.every
        self.augment = changes
        self.data = data
        self.uncompressed = uncompressed
        self.seed = seed
        self.multipliers = Multipliers(
            len(limits.names), cfg.dual_rate, cfg.largest_multiplier, cfg.penalty
        )
        self._seen: list[torch.Tensor] = []

    def backward(self, model: nn.Module, step: int) -> None:
        """Add the gradients of ``sum_k w_k g_k``, w as last measured, then let the multipliers ascend.

        The sum is scaled by `every`, so that the weights feel as much of it as if it came every step.
        """
        weights, source = self.multipliers.weights, self.cfg.multipliers_from
        trained: torch.Tensor | None = None
        if weights.any() or source == "train":
            trained = self._violations(model, "train", step)
        if trained is not None and weights.any():
            (self.every * (weights @ trained)).backward()
        if source == "train":
            assert trained is not None
            seen = trained.detach()
        else:
            with torch.no_grad():
                seen = self._violations(model, "val", step)
        self.multipliers.ascend(seen)
        self._seen.append(seen)

    def _violations(
        self, model: nn.Module, split: Literal["train", "val"], step: int
    ) -> torch.Tensor:
        indices = balanced_batch(self.data, split, self.cfg.batch_size, self.seed, step)
        images, labels = read(self.data, indices)
        generator = torch.Generator().manual_seed(stream(self.seed, step, AUGMENTATION))
        inputs = augment(to_float(images, torch.contiguous_format), self.augment, generator)
        with torch.no_grad():
            reference = self.uncompressed(inputs)
        return self.limits.violations(model(inputs), reference, labels)

    def close_epoch(self) -> dict[str, float]:
        """Return the epoch's mean violation and last multiplier of every constraint."""
        mean = torch.stack(self._seen).mean(dim=0) if self._seen else None
        self._seen = []
        row = {}
        for k, name in enumerate(self.limits.names):
            row[f"violation_{name}"] = float("nan") if mean is None else float(mean[k])
            row[f"multiplier_{name}"] = float(self.multipliers.values[k])
        logger.info(
            "constraint: %s",
            ", ".join(
                f"{name} {row[f'violation_{name}']:+.3f} (multiplier {row[f'multiplier_{name}']:.2f})"
                for name in self.limits.names
            ),
        )
        return row

    def state_dict(self) -> dict[str, Any]:
        """Return the multipliers; violations are of the epoch, and state is saved between epochs."""
        return {"multipliers": self.multipliers.values, "weights": self.multipliers.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.multipliers.values = state["multipliers"]
        self.multipliers.weights = state["weights"]
