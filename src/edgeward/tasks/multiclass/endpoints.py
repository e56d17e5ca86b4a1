"""What is asked of compressed models that decide for one of several classes."""

from __future__ import annotations

from edgeward.statistics.noninferiority import Endpoint
from edgeward.tasks.assessment import Arm, Intervals
from edgeward.tasks.endpoints import of_all, of_classes


def endpoints(reference: Arm, found: Intervals) -> list[Endpoint]:
    """Return recall of each rare and each critical class, balanced accuracy, macro AUC and ECE, and floors of recall."""
    margins = reference.cfg.margins
    asked = (
        ("balanced accuracy", "balanced_accuracy", margins.balanced_accuracy),
        ("macro AUC", "auc_macro", margins.auc),
        ("RMS-ECE", "ece", margins.ece),
    )
    return [*of_classes(reference, found), *of_all(reference, asked)]
