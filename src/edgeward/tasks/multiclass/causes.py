"""Moved thresholds told from lost discrimination, class by class."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from edgeward.records.base import Interval
from edgeward.records.safety import Decision
from edgeward.statistics.alignment import call_shares, fit_offsets
from edgeward.tasks.assessment import Arm, Intervals, Key, Share


def causes(
    before: Arm, after: Arm, val: tuple[np.ndarray, np.ndarray], logits: np.ndarray,
    change: Intervals, level: float,
) -> list[Decision]:  # fmt: skip
    """Say of each class what a change of its recall comes from.

    The compressed model's logits get the constants with which it calls each class as often on validation as the
    reference does, without labels (`edgeward.statistics.alignment`). What recall is lost then is no matter of thresholds.

    Parameters
    ----------
    val : logits of both models on the validation images, float32 (m, c).
    logits : of the compressed model on the test images, float32 (n, c).
    change : differences of the metrics, with their intervals.
    """
    offsets = fit_offsets(val[1], call_shares(val[0]))
    right = (logits + offsets).argmax(axis=1) == after.cases.labels
    rows = []
    for k, name in enumerate(before.cases.classes):
        key = Key("recall", name)
        recall, auc = change[key], change[Key("auc", name)]
        theirs, ours = before.basis(key), after.basis(key)
        assert isinstance(theirs, Share)
        assert isinstance(ours, Share)
        aligned = theirs.against(replace(ours, hit=right), level).interval
        rows.append(
            Decision(
                name=name,
                difference=recall,
                auc=auc,
                aligned=aligned,
                offset=float(offsets[k]),
                cause=_cause(recall, auc, aligned, before.cfg.margins.auc),
            )
        )
    return rows


def _cause(
    recall: Interval, auc: Interval, aligned: Interval, margin: float
) -> Literal["none", "threshold", "discrimination", "open"]:
    """Say what a changed recall comes from; see `Decision.cause`."""
    _, low, high = recall
    if not recall.bounded or low <= 0 <= high:
        return "none"
    _, auc_low, auc_high = auc
    left, down, up = aligned
    if auc_low > -margin and (down <= 0 <= up or abs(left) < abs(recall.estimate or 0.0) / 2):
        return "threshold"
    return "discrimination" if auc_low <= -margin and auc_high < 0 else "open"
