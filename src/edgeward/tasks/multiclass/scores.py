"""From logits to what is scored: decision, probabilities, confidence, ranks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeward.core.errors import UserError
from edgeward.statistics.temperature import log_softmax


@dataclass(frozen=True)
class Scores:
    """One model on one labelled set of n images and c classes.

    Attributes
    ----------
    decision : int64 (n,), argmax of the raw logits.
    correct : bool (n,).
    log_p : float64 (n, c), natural-prevalence log probabilities.
    confidence : float64 (n,), probability of the decision.
    confidence_scaled : float64 (n,), the same after temperature scaling.
    log_odds : float64 (n, c), log p/(1-p): ranks as p does, but does not saturate at 1.
    nll, brier : float64 (n,), per image; the Brier score sums over the classes (0 to 2).
    """

    decision: np.ndarray
    correct: np.ndarray
    log_p: np.ndarray
    confidence: np.ndarray
    confidence_scaled: np.ndarray
    log_odds: np.ndarray
    nll: np.ndarray
    brier: np.ndarray


def natural_logits(logits: np.ndarray, logit_shift: np.ndarray) -> np.ndarray:
    """Return float64 logits whose softmax is the probability at the natural prevalence."""
    return np.asarray(logits, dtype=np.float64) + np.asarray(logit_shift, dtype=np.float64)


def _log_odds(log_p: np.ndarray) -> np.ndarray:
    """Return log p - log(1 - p), with 1 - p summed from the other classes so that it keeps digits."""
    others = np.empty_like(log_p)
    for k in range(log_p.shape[1]):
        rest = np.delete(log_p, k, axis=1)
        top = rest.max(axis=1, keepdims=True)
        others[:, k] = top[:, 0] + np.log(np.exp(rest - top).sum(axis=1))
    return log_p - others


def score(
    logits: np.ndarray, labels: np.ndarray, logit_shift: np.ndarray, temperature: float
) -> Scores:
    """Score logits against labels.

    Parameters
    ----------
    logits : float, shape (n, c).
    labels : int, shape (n,), values in 0..c-1.
    logit_shift : float, shape (c,): added to the logits for probabilities, not for the decision.
    temperature : divides the natural logits for `confidence_scaled`.

    Raises
    ------
    UserError
        If shapes do not fit, or a logit is not finite.
    """
    check(logits, labels)
    rows = np.arange(len(labels))
    decision = logits.argmax(axis=1)
    natural = natural_logits(logits, logit_shift)
    log_p = log_softmax(natural)
    p = np.exp(log_p)
    brier = (p**2).sum(axis=1) - 2 * p[rows, labels] + 1
    return Scores(
        decision=decision,
        correct=decision == labels,
        log_p=log_p,
        confidence=p[rows, decision],
        confidence_scaled=np.exp(log_softmax(natural / temperature))[rows, decision],
        log_odds=_log_odds(log_p),
        nll=-log_p[rows, labels],
        brier=np.maximum(brier, 0.0),
    )


def check(logits: np.ndarray, labels: np.ndarray) -> None:
    """Raise UserError unless logits are finite, shape (n, c), and labels fit them."""
    if logits.ndim != 2 or len(logits) != len(labels) or logits.shape[1] < 2:
        raise UserError(f"Logits have shape {logits.shape}; needed: ({len(labels)}, classes >= 2).")
    if not len(labels):
        raise UserError("There is no image to assess; the split must hold some.")
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise UserError(
            f"Labels lie in {labels.min()}..{labels.max()}, but the model has {logits.shape[1]} classes."
        )
    bad = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(bad):
        raise UserError(
            f"The model gives NaN or infinite logits for {len(bad)} of {len(logits)} images "
            f"(first: number {bad[0]} of the split). Look at the training and compression logs."
        )
