"""What a step of a recipe is."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from edgeward.core.config import Closed

if TYPE_CHECKING:
    from edgeward.compression.workpiece import Workpiece
    from edgeward.training.config import SafetyLimits


class Step(Closed):
    """One step: its settings are the fields, its work is `apply`.

    Files of steps are read whenever a config is checked, so at module level they import the standard
    library and pydantic only; what the work needs is imported inside `apply`.
    """

    final: ClassVar[bool] = False
    """Whether the step ends in an exported program, so that only `follows_final` steps can follow."""
    follows_final: ClassVar[bool] = False
    """Whether the step can work on an exported program, too."""
    makes_zeros: ClassVar[bool] = False
    """Whether the step leaves zeros in the weights, marked in ``Workpiece.masks``."""
    keeps_zeros: ClassVar[bool] = False
    """Whether the step leaves such zeros where they are; others cannot follow them."""

    @property
    def limits(self) -> SafetyLimits | None:
        """The safety constraint that the step keeps: that of its fine-tuning, if it has one."""
        limits: SafetyLimits | None = getattr(getattr(self, "finetune", None), "constraint", None)
        return limits

    @property
    def needs(self) -> tuple[str, ...]:
        """What the step asks of a task: capabilities that `Task.unsupported` may refuse."""
        return () if self.limits is None else ("safety_constraint",)

    def apply(self, piece: Workpiece) -> None:
        """Change `piece`: its module, or (final steps) its program; add to record and metrics."""
        raise NotImplementedError
