"""Moved thresholds told from lost discrimination, class by class."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from edgeward.records.base import Interval
from edgeward.records.safety import Decision
from edgeward.statistics.alignment import call_shares, fit_offsets
from edgeward.statistics.decisions import decided
from edgeward.tasks.assessment import Aligned, Arm, Intervals, Key, Share


def align(val: tuple[np.ndarray, np.ndarray], logits: np.ndarray, truth: np.ndarray) -> Aligned:
    """Align the decision borders of a compressed model.

    Its logits get the constants with which it calls each class as often on validation as the reference does, without
    labels (`edgeward.statistics.alignment`).

    Parameters
    ----------
    val : logits of reference and compressed model on the validation images, float32 (m, c).
    logits : of the compressed model on the test images, float32 (n, c).
    truth : of these: the class, int64 (n,), of which the one with the highest logit is decided for; or the findings, int8 (n, c), each
        decided for where its logit is above 0.
    """
    exclusive = truth.ndim == 1
    offsets = fit_offsets(val[1], call_shares(val[0], exclusive=exclusive), exclusive=exclusive)
    return Aligned(offsets, decided(logits + offsets, exclusive) == truth)


def causes(
    before: Arm, after: Arm, aligned: Aligned, change: Intervals, level: float
) -> list[Decision]:
    """Say of each class what a change of its recall comes from: what is lost with borders aligned is no matter of thresholds.

    Parameters
    ----------
    aligned : of the compressed model. change : differences of the metrics, with their intervals.
    """
    rows = []
    for k, name in enumerate(before.cases.classes):
        key = Key("recall", name)
        recall, auc = change[key], change[Key("auc", name)]
        theirs, ours = before.basis(key), after.basis(key)
        assert isinstance(theirs, Share)
        assert isinstance(ours, Share)
        right = aligned.hit(k)
        left = theirs.against(replace(ours, hit=right), level).interval
        if spread := before.spread_of(right - theirs.hit.astype(float), theirs.where):
            left = spread.widen(left, level, least=-1.0, most=1.0)
        rows.append(
            Decision(
                name=name,
                difference=recall,
                auc=auc,
                aligned=left,
                offset=float(aligned.offsets[k]),
                cause=_cause(recall, auc, left, before.cfg.margins.auc),
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
