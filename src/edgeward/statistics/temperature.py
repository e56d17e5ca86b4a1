"""Probabilities from logits, and the temperature that fits them."""

from __future__ import annotations

import numpy as np


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return log softmax over the last axis, in float64."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    result: np.ndarray = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def fit_temperature(
    logits: np.ndarray,
    labels: np.ndarray,
    shift: np.ndarray | float = 0.0,
    *,
    least: float = 0.01,
    most: float = 100.0,
) -> float:
    """Return the T that minimises the mean NLL of ``softmax(logits / T + shift)``.

    Guo et al., ICML 2017 (arXiv 1706.04599, section 4.2). The division is of the raw logits, so the decision
    ``argmax(logits)`` stays what it was for every T; to divide the sum, add the shift to the logits first. The NLL is
    convex in 1/T, so its slope is bisected. T is kept in [least, most]: a set without a single error has no finite
    optimum.

    Parameters
    ----------
    logits : float, shape (n, c). labels : int, shape (n,). shift : float, shape (c,).
    """
    raw = np.asarray(logits, dtype=np.float64)
    z = raw - raw.max(axis=1, keepdims=True)
    true = z[np.arange(len(labels)), labels]

    def slope(beta: float) -> float:
        a = beta * z + shift
        e = np.exp(a - a.max(axis=1, keepdims=True))
        return float(np.mean((e * z).sum(axis=1) / e.sum(axis=1) - true))

    low, high = np.log(1 / most), np.log(1 / least)
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(float(np.exp(middle))) < 0 else (low, middle)
    return float(np.exp(-(low + high) / 2))
