"""From where on a finding is called, by what is best on validation."""

from __future__ import annotations

import numpy as np


def best(logits: np.ndarray, findings: np.ndarray, rule: str) -> np.ndarray:
    """Return the logit above which each finding is called, float64 (c,).

    Half way between two neighbouring logits, or 0.5 beyond the last one; of equally good ones that nearest to 0; 0 where validation holds
    no case with the finding, or none without.

    Parameters
    ----------
    logits : float (n, c), of validation. findings : int8 (n, c); -1 is not known.
    rule : "f1" (largest F1) or "youden" (largest sensitivity + specificity).
    """
    out = np.zeros(logits.shape[1])
    for k in range(logits.shape[1]):
        known = findings[:, k] >= 0
        z, y = logits[known, k].astype(np.float64), findings[known, k] == 1
        if y.any() and not y.all():
            out[k] = _cut(z, y, rule)
    return out


def _cut(logits: np.ndarray, truth: np.ndarray, rule: str) -> float:
    order = np.argsort(-logits, kind="stable")
    z, y = logits[order], truth[order]
    ends = np.concatenate(
        [np.flatnonzero(np.diff(z)), [len(z) - 1]]
    )  # as many are called, less one
    hits, called = np.cumsum(y)[ends], ends + 1.0
    wrong, total = called - hits, int(y.sum())
    score = 2 * hits / (called + total) if rule == "f1" else hits / total - wrong / (len(y) - total)
    below = np.append(z[ends[:-1] + 1], z[-1] - 1.0)
    borders = (z[ends] + below) / 2
    good = np.flatnonzero(score >= score.max() - 1e-12)
    return float(borders[good[np.argmin(np.abs(borders[good]))]])
