"""Knowledge distillation: a smaller network learns the outputs of a larger one, besides the labels."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from edgeward.core.errors import UserError
from edgeward.records.recipe import ModelMeta
from edgeward.tasks.training import Loss

# Facts that teacher and student have to share, so that their logits mean the same.
SHARED = ("data", "classes", "in_chans", "image_size", "seed")


def soft_targets(
    student: torch.Tensor, teacher: torch.Tensor, temperature: float, *, exclusive: bool = True
) -> torch.Tensor:
    """Return ``T**2 KL(softmax(teacher / T) || softmax(student / T))``, mean over the batch,
    and over all pixels of dense outputs; if labels are not exclusive, the same of the sigmoid of each, summed over the labels.

    Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network (arXiv 1503.02531), section 2; the
    factor keeps the size of the gradients when T changes.

    Parameters
    ----------
    student, teacher : logits, float32 (b, n_classes) or (b, n_labels, *spatial).
    """
    if not exclusive:
        z, t = student / temperature, teacher / temperature
        p = torch.sigmoid(t)
        # KL of two Bernoulli variables; what the student cannot change (the teacher's entropy) makes it 0 where they agree.
        cross = functional.binary_cross_entropy_with_logits(z, p, reduction="none")
        own = functional.binary_cross_entropy_with_logits(t, p, reduction="none")
        return temperature**2 * (cross - own).sum(dim=1).mean()
    mine, theirs = (
        functional.log_softmax(logits.movedim(1, -1).flatten(0, -2) / temperature, dim=1)
        for logits in (student, teacher)
    )
    divergence = functional.kl_div(mine, theirs, reduction="batchmean", log_target=True)
    return temperature**2 * divergence


def similarity(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Return how differently two networks see which images of a batch resemble each other.

    ``||G_t - G_s||_F**2 / b**2`` of the row-normalised Gram matrices of the features: Tung and Mori,
    Similarity-Preserving Knowledge Distillation, ICCV 2019, eq. 2-4. The widths may differ.

    Parameters
    ----------
    student, teacher : features, float32 (b, any width).
    """
    mine, theirs = (
        functional.normalize(f.flatten(1) @ f.flatten(1).T, dim=1) for f in (student, teacher)
    )
    return (mine - theirs).square().mean()


def check_teacher(name: str, teacher: ModelMeta, student: ModelMeta) -> None:
    """Refuse a teacher whose logits mean something else than the student's.

    Parameters
    ----------
    teacher, student : ``meta`` of their ``model.pt``.
    """
    for key in SHARED:
        theirs, mine = getattr(teacher, key), getattr(student, key)
        if theirs != mine:
            raise UserError(
                f"teacher '{name}' was trained with {key} {theirs}, the student with "
                f"{mine}: train both in one sweep, on the same data."
            )
    its, own = (np.asarray(m.logit_shift, dtype=np.float64) for m in (teacher, student))
    if not np.allclose(its - its.mean(), own - own.mean(), atol=1e-6):
        raise UserError(
            f"teacher '{name}' was trained with another loss than the student (their logit_shift differs): "
            "use the same train.loss for both (per_model overrides of the sweep)."
        )


class Distillation(nn.Module):
    """The student, with the teacher beside it while it trains.

    In training, `forward` runs both on the images and returns the student's logits; `loss` then compares
    the two. The teacher is no submodule: it is neither trained nor stored with the student's state.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        *,
        task: Loss,
        temperature: float,
        weight: float,
        similarity_weight: float,
        exclusive: bool = True,
    ) -> None:
        super().__init__()
        self.student = student
        self._teacher = (teacher.eval().requires_grad_(False),)
        self._task, self._temperature, self._weight = task, temperature, weight
        self._exclusive = exclusive
        self._similarity_weight = similarity_weight
        self._said: tuple[torch.Tensor, torch.Tensor] | None = None
        self._features: dict[str, torch.Tensor] = {}
        self._hooks: list[RemovableHandle] = []
        if similarity_weight > 0:
            self._watch("student", student)
            self._watch("teacher", teacher)

    def _watch(self, who: str, network: nn.Module) -> None:
        """Keep what goes into the network's last linear layer."""

        def keep(_: nn.Module, inputs: tuple[torch.Tensor]) -> None:
            self._features[who] = inputs[0]

        linear = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
        if not linear:
            raise UserError(
                f"distill: the {who} has no linear layer before its logits, so there are no features "
                "to compare; set compress.steps[..].similarity_weight to 0."
            )
        self._hooks.append(linear[-1].register_forward_pre_hook(keep))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.student(images)
        if self.training:
            with torch.no_grad():
                self._said = (logits, self._teacher[0](images))
        return logits

    def close(self) -> None:
        """Leave no trace in the student."""
        for hook in self._hooks:
            hook.remove()

    def loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return ``(1 - weight) task + weight soft_targets + similarity_weight similarity``."""
        if self._said is None or self._said[0] is not logits:
            raise AssertionError("these logits are not from the last forward pass in training")
        value = (1 - self._weight) * self._task(logits, labels)
        soft = soft_targets(logits, self._said[1], self._temperature, exclusive=self._exclusive)
        value = value + self._weight * soft
        if self._similarity_weight > 0:
            seen = similarity(self._features["student"], self._features["teacher"])
            value = value + self._similarity_weight * seen
        return value
