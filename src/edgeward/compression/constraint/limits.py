"""The constraint functions: compressed against uncompressed, on the same images."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from edgeward.compression.constraint.losses import (
    decision_confidence,
    kernel_ece,
    natural_weights,
    soft_recall,
)
from edgeward.core.errors import UserError
from edgeward.data.store import Prepared
from edgeward.training.config import SafetyLimits


@dataclass(frozen=True)
class Limits:
    """``g <= 0`` in words: no rare class loses more recall, and no more calibration, than the margins.

    Attributes
    ----------
    names : of the constraints: ``recall_<class>`` for every rare class, then ``ece``.
    rare : label numbers of the rare classes.
    prior : float64, shape (n_classes,): prevalence in train.
    shift : float64, shape (n_classes,): ``logit_shift``.
    """

    cfg: SafetyLimits
    names: list[str]
    rare: list[int]
    prior: torch.Tensor
    shift: torch.Tensor

    @classmethod
    def of(cls, cfg: SafetyLimits, data: Prepared, shift: list[float]) -> Limits:
        """Read the classes and their prevalence from prepared data.

        Raises
        ------
        UserError
            If the data has no rare class.
        """
        names = list(data.card.rare_classes)
        if not names:
            raise UserError(
                f"{data.root} has no rare class for the safety constraint to protect; name some under "
                "'rare' in config/data/, or set finetune.constraint to null."
            )
        prior = torch.tensor(data.card.train_prior, dtype=torch.float64)
        return cls(
            cfg=cfg,
            names=[*[f"recall_{name}" for name in names], "ece"],
            rare=[data.classes.index(name) for name in names],
            prior=prior,
            shift=torch.tensor(shift, dtype=torch.float64),
        )

    def values(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the soft recalls and, last, the kernel ECE at the natural prevalence.

        Parameters
        ----------
        logits : float, shape (n, n_classes). labels : int64, shape (n,), with every rare class.
        """
        logits = logits.double()
        recall = soft_recall(logits, labels, self.rare, self.cfg.recall_temperature)
        confidence, correct = decision_confidence(logits, labels, self.shift)
        weights = natural_weights(labels, self.prior)
        error = kernel_ece(confidence, correct, weights, self.cfg.ece_bandwidth)
        return torch.cat([recall, error[None]])

    def violations(
        self, compressed: torch.Tensor, reference: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        """Return g, positive where violated: ``recall_ref - recall - margin``, ``ece - ece_ref - margin``.

        Both networks see the same images, so what is hard or easy about these cancels.

        Parameters
        ----------
        compressed, reference : logits, shape (n, n_classes). labels : int64, shape (n,).

        Returns
        -------
        float64, in the order of `names`; gradients reach `compressed` only.
        """
        change = self.values(compressed, labels) - self.values(reference, labels).detach()
        return torch.cat([-change[:-1], change[-1:]]) - self.slack()

    def slack(self) -> torch.Tensor:
        """Return the margins, float64, in the order of `names`: -g of a network without any change."""
        margins = self.cfg.margins
        return torch.tensor([*[margins.recall] * len(self.rare), margins.ece], dtype=torch.float64)
