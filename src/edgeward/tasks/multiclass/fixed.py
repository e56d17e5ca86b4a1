"""What is fixed on the validation images before a test image is seen: thresholds, and the limits of prediction sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from edgeward.statistics.conformal import thresholds
from edgeward.statistics.ranking import cut
from edgeward.tasks.multiclass.config import Safety
from edgeward.tasks.multiclass.scores import score

AT_POINT = ("sensitivity_at_specificity", "specificity_at_sensitivity")


class Labelled(NamedTuple):
    """Logits, float32 (n, c), and labels, int64 (n,)."""

    logits: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Fixed:
    """What validation fixes of a model.

    Attributes
    ----------
    points : log odds from which each class is called, one against the rest: metric -> class; NaN if validation lacks it.
    least : float64 (c,), least log probability of a class in a prediction set; -inf where validation holds too few.
    least_confidence : from which on an image is decided.
    """

    points: dict[str, list[float]]
    least: np.ndarray
    least_confidence: float

    @classmethod
    def of(
        cls, val: Labelled | None, c: int, shift: np.ndarray, temperature: float, cfg: Safety
    ) -> Self:
        """Fix them on the validation images; without any, nothing is.

        Parameters
        ----------
        c : number of classes. shift, temperature : as in `edgeward.tasks.multiclass.scores.score`.
        """
        if val is None:
            nothing = {name: [float("nan")] * c for name in AT_POINT}
            return cls(nothing, np.full(c, -np.inf), float("nan"))
        found, point = score(val.logits, val.labels, shift, temperature), cfg.operating
        ill = [found.log_odds[val.labels == k, k] for k in range(c)]
        well = [found.log_odds[val.labels != k, k] for k in range(c)]
        return cls(
            {
                "sensitivity_at_specificity": [cut(x, point.specificity, "higher") for x in well],
                "specificity_at_sensitivity": [cut(x, 1 - point.sensitivity, "lower") for x in ill],
            },
            thresholds(found.log_p, val.labels, cfg.uncertainty.coverage),
            cut(found.confidence, 1 - cfg.uncertainty.decided, "lower"),
        )
