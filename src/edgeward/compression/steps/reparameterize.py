"""Single-branch form: multi-branch blocks, batch norms and layer scales go into the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from edgeward.compression.step import Step

if TYPE_CHECKING:
    from edgeward.compression.workpiece import Workpiece


class Reparameterize(Step):
    """Same function, fewer operators; weights stay float32."""

    step: Literal["reparameterize"]

    def apply(self, piece: Workpiece) -> None:
        """Replace the module by its single-branch form."""
        from edgeward.compression.fusion import fuse
        from edgeward.models.deploy import reparameterize

        piece.module, folded = fuse(reparameterize(piece.module), piece.example)
        piece.found["folded"] = folded
