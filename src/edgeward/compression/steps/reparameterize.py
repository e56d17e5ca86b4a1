"""Single-branch form: multi-branch blocks, batch norms and layer scales go into the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from edgeward.compression.steps.base import Step

if TYPE_CHECKING:
    from edgeward.compression.candidate import Candidate


class Reparameterize(Step):
    """Same function, fewer operators; weights stay float32."""

    step: Literal["reparameterize"]

    def apply(self, candidate: Candidate) -> None:
        """Replace the module by its single-branch form."""
        from edgeward.compression.fusion import fuse
        from edgeward.models.deploy import reparameterize

        candidate.module, folded = fuse(reparameterize(candidate.module), candidate.example)
        candidate.record["folded"] = folded
