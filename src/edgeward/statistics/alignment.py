"""Constants on the logits with which a model calls each class as often as another one does."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax

_SOFTEST, _HARDEST = 0.3, 3e-3  # of the spread of the logits


def call_shares(
    logits: np.ndarray, weights: np.ndarray | None = None, *, exclusive: bool = True
) -> np.ndarray:
    """Return how often each class is called, ``argmax(logits)``: float64 (c,), sum 1.

    Parameters
    ----------
    logits : float, shape (n, c). weights : float, shape (n,), not negative; None: all alike.
    exclusive : if false, each class is called where its logit is above 0, and the sum is what it is.
    """
    if not exclusive:
        called: np.ndarray = np.average(logits > 0, axis=0, weights=weights)
        return called
    calls = np.bincount(logits.argmax(axis=1), weights, minlength=logits.shape[1])
    result: np.ndarray = calls / calls.sum()
    return result


def fit_offsets(
    logits: np.ndarray,
    shares: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    exclusive: bool = True,
) -> np.ndarray:
    """Return the constants b with which ``argmax(logits + b)`` calls each class as often as wanted.

    They minimise ``mean_i max_k (l_ik + b_k) - shares . b``, which is convex and has the difference of the call shares
    as its slope: the dual of semi-discrete optimal transport (Peyre & Cuturi, Computational Optimal Transport, 2019,
    section 5.2). The maximum is softened, and hardened step by step. Where a border can lie anywhere between two cases, or
    a class shall never be called, the smallest constants are taken: a ridge that at most half a case can outweigh.

    Parameters
    ----------
    logits : float, shape (n, c).
    shares : float, shape (c,): how often each class shall be called, sum 1.
    weights : float, shape (n,), of the cases; None: all alike.
    exclusive : if false, each class is called where its logit is above 0, with a constant of its own.

    Returns
    -------
    float64 (c,), of mean 0 if exclusive.
    """
    raw = np.asarray(logits, dtype=np.float64)
    n, c = raw.shape
    if not exclusive:
        w = np.ones(n) if weights is None else weights
        return np.array([_border(raw[:, k], w, share) for k, share in enumerate(shares)])
    w = np.full(n, 1 / n) if weights is None else weights / weights.sum()
    scale = float((raw - raw.mean(axis=1, keepdims=True)).std()) or 1.0
    b, ridge = np.zeros(c), 0.5 / (n * scale)  # its slope at one spread of the logits: half a case
    for soft in np.geomspace(_SOFTEST, _HARDEST, 8) * scale:

        def loss(b: np.ndarray, soft: float = soft) -> tuple[float, np.ndarray]:
            z = (raw + b) / soft
            value = soft * float(w @ logsumexp(z, axis=1)) - float(shares @ b)
            slope = w @ softmax(z, axis=1) - shares + ridge * b
            return value + ridge / 2 * float(b @ b), slope

        b = minimize(loss, b, jac=True, method="L-BFGS-B", options={"ftol": 1e-14}).x
    result: np.ndarray = b - b.mean()
    return result


def _border(logits: np.ndarray, weights: np.ndarray, share: float) -> float:
    """Return the constant with which ``logits + constant > 0`` for a share of the cases, by weight, or for as near to it as can be.

    The border may lie anywhere between two neighbouring logits: at 0 if it can, else half way (at most 0.5 from the one nearer to 0).
    """
    order = np.argsort(-logits, kind="stable")
    ranked = logits[order]
    called = np.concatenate([[0.0], np.cumsum(weights[order]) / weights.sum()])
    # A border after so many cases; equal logits are called together or not at all.
    ends = np.concatenate([[0], np.flatnonzero(np.diff(ranked)) + 1, [len(ranked)]])
    m = ends[np.argmin(np.abs(called[ends] - share))]
    low = ranked[m] if m < len(ranked) else -np.inf  # the highest that is not called
    high = ranked[m - 1] if m else np.inf  # the lowest that is
    if low <= 0 < high:
        return 0.0
    half = min(high - low, 1.0) / 2
    return float(-(low + half if low > 0 else high - half))
