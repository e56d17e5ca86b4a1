"""What a step of a recipe is."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from edgeward.core.config import Closed

if TYPE_CHECKING:
    from edgeward.compression.candidate import Candidate


class Step(Closed):
    """One step: its settings are the fields, its work is `apply`.

    Files of steps are read whenever a config is checked, so at module level they import the standard
    library and pydantic only; what the work needs is imported inside `apply`.
    """

    final: ClassVar[bool] = False
    """Whether the step ends in an exported program, so that no other can follow."""
    makes_zeros: ClassVar[bool] = False
    """Whether the step leaves zeros in the weights, marked in ``Candidate.masks``."""
    keeps_zeros: ClassVar[bool] = False
    """Whether the step leaves such zeros where they are; others cannot follow them."""

    def apply(self, candidate: Candidate) -> None:
        """Change `candidate`: its module, or (final steps) its program; add to record and metrics."""
        raise NotImplementedError
