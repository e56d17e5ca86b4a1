"""Deciding only where the model is confident: how often it is wrong there."""

from __future__ import annotations

import numpy as np


def risk_coverage(confidence: np.ndarray, correct: np.ndarray, points: int) -> np.ndarray:
    """Return the risk-coverage curve: of the most confident share of the cases, the share decided wrongly.

    El-Yaniv & Wiener, JMLR 11 (2010) 1605-1641; Geifman & El-Yaniv, NeurIPS 2017. Cases of one confidence are taken together.

    Parameters
    ----------
    confidence : float, shape (n,). correct : bool, shape (n,). points : at most, evenly over the cases.

    Returns
    -------
    float64 (2, points): coverage, ascending to 1, and risk.
    """
    order = np.argsort(-confidence, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(confidence[order])), len(order) - 1)
    wrong = np.cumsum(~correct[order])[ends]
    n = ends + 1
    kept = np.unique(np.searchsorted(n, np.linspace(1, len(order), points)).clip(max=len(n) - 1))
    return np.stack([n / len(order), wrong / n])[:, kept]
