"""When two INT8 runs of one network are the same: one rule for the exported file and for every device.

Engines round activations to 256 levels, and where two of them part by a level a network may amplify it. How
much is measured with one engine alone, on images changed by less than the rounding of their pixels (its
sensitivity). So the mean error has a limit that grows with it, and clear decisions must agree.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from edgeward.core.config import Closed


class Int8Tolerance(Closed):
    """How far the logits of an INT8 run may lie from those of a reference."""

    perturbation: float = Field(
        gt=0, le=1, description="Uniform +- change of the pixels, in grey levels of 0-255."
    )
    mean_to_spread: float = Field(
        ge=0, description="Mean |error| that always passes, as a share of the logit spread."
    )
    mean_to_sensitivity: float = Field(
        ge=0, description="Mean |error| allowed, as a multiple of that under the perturbation."
    )
    max_mean_to_spread: float = Field(
        gt=0, description="Mean |error| that never passes, as a share of the logit spread."
    )
    decided_margin: float = Field(
        gt=0, description="An image is decided if its top-2 margin exceeds so many times the limit."
    )
    decided_agreement: Annotated[float, Field(ge=0, le=1)] = Field(
        description="Least argmax agreement on decided images."
    )

    def limit(self, spread: float, sensitivity: float) -> float:
        """Return the largest mean |error| allowed, in logits.

        Parameters
        ----------
        spread : standard deviation of the reference's logits.
        sensitivity : mean change of the logits under the perturbation.
        """
        allowed = max(self.mean_to_spread * spread, self.mean_to_sensitivity * sensitivity)
        return min(self.max_mean_to_spread * spread, allowed)

    def decided(
        self, reference: np.ndarray, other: np.ndarray, limit: float
    ) -> tuple[int, float | None]:
        """Return how many images the reference clearly decides, and the share decided alike.

        Both are logits (n, n_classes, ..); of label maps every pixel or voxel counts as an image. The
        share is None where nothing is clear.
        """
        clear = margin(reference) > self.decided_margin * limit
        alike = (reference.argmax(1) == other.argmax(1))[clear]
        return len(alike), float(alike.mean()) if len(alike) else None


def margin(logits: np.ndarray) -> np.ndarray:
    """Return the distance of the highest logit to the second highest, or of a single one to 0, (n, ..)."""
    top = np.sort(logits, axis=1)
    return top[:, -1] - top[:, -2] if logits.shape[1] > 1 else np.abs(top[:, -1])
