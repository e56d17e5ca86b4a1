"""The constraint functions: compressed against uncompressed, on the same images."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from edgeward.compression.constraint.losses import (
    decision_confidence,
    kernel_ece,
    natural_weights,
    soft_call_recall,
    soft_recall,
)
from edgeward.core.errors import UserError
from edgeward.data.store import Prepared
from edgeward.records.recipe import ModelMeta
from edgeward.training.config import SafetyLimits


@dataclass(frozen=True)
class Limits:
    """``g <= 0`` in words: no rare class loses more recall, and no more calibration, than the margins.

    Attributes
    ----------
    names : of the constraints: ``recall_<class>`` for every rare class, then ``ece``.
    rare : label numbers of the rare classes.
    prior : float64, shape (n_classes,): prevalence in train; of findings, shape (n_classes + 1,), of cases whose rarest finding it
        is, and of those without any.
    shift : float64, shape (n_classes,): ``logit_shift``.
    order : of findings, int64 (n_classes,): from the rarest to the commonest; None of classes, of which a case has one.
    thresholds : float64, shape (n_classes,): logits above which findings are called.
    """

    cfg: SafetyLimits
    names: list[str]
    rare: list[int]
    prior: torch.Tensor
    shift: torch.Tensor
    order: torch.Tensor | None = None
    thresholds: torch.Tensor | None = None

    @classmethod
    def of(cls, cfg: SafetyLimits, data: Prepared, meta: ModelMeta) -> Limits:
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
        found = cls(
            cfg=cfg,
            names=[*[f"recall_{name}" for name in names], "ece"],
            rare=[data.classes.index(name) for name in names],
            prior=torch.tensor(data.card.train_prior, dtype=torch.float64),
            shift=torch.tensor(meta.logit_shift, dtype=torch.float64),
        )
        if data.findings is None:
            return found
        held = torch.from_numpy(data.held(data.indices("train")))
        order = torch.argsort(held.sum(dim=0), stable=True)
        rarest = _rarest(held, order)
        counts = torch.bincount(rarest, minlength=held.shape[1] + 1).double()
        return replace(
            found,
            prior=counts / counts.sum(),
            order=order,
            thresholds=torch.tensor(meta.thresholds or [0.0] * len(order), dtype=torch.float64),
        )

    def values(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the soft recalls and, last, the kernel ECE at the natural prevalence (of findings, its mean over them).

        Parameters
        ----------
        logits : float, shape (n, n_classes). labels : int64, shape (n,), or findings, int8, shape (n, n_classes); with every rare class.
        """
        logits = logits.double()
        if self.order is not None:
            return self._of_findings(logits, labels)
        recall = soft_recall(logits, labels, self.rare, self.cfg.recall_temperature)
        confidence, correct = decision_confidence(logits, labels, self.shift)
        weights = natural_weights(labels, self.prior)
        error = kernel_ece(confidence, correct, weights, self.cfg.ece_bandwidth)
        return torch.cat([recall, error[None]])

    def _of_findings(self, logits: torch.Tensor, findings: torch.Tensor) -> torch.Tensor:
        assert self.order is not None
        truth, known = findings == 1, (findings >= 0).double()
        called = logits - self.thresholds
        recall = soft_call_recall(called, truth, self.rare, self.cfg.recall_temperature)
        weights = natural_weights(_rarest(truth, self.order), self.prior)
        p, y = torch.sigmoid(logits + self.shift), truth.double()
        errors = [
            kernel_ece(p[:, k], y[:, k], w / w.sum(), self.cfg.ece_bandwidth)
            for k, w in enumerate((weights[:, None] * known).T)
            if bool(w.any())
        ]
        return torch.cat([recall, torch.stack(errors).mean()[None]])

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


def _rarest(held: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """Return the rarest finding that each case has, int64 (n,); their number for a case without any.

    Parameters
    ----------
    held : bool (n, c). order : int64 (c,), from the rarest finding to the commonest.
    """
    first = order[held[:, order].int().argmax(dim=1)]
    return torch.where(held.any(dim=1), first, held.shape[1])
