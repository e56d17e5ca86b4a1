"""What logits decide: one label, the highest, or each label on its own, where its logit is above 0."""

from __future__ import annotations

import numpy as np


def decided(logits: np.ndarray, exclusive: bool = True) -> np.ndarray:
    """Return the decisions of logits (n, c, ..).

    Parameters
    ----------
    exclusive : whether a case has exactly one label.

    Returns
    -------
    int64 (n, ..), the label; or of labels that are decided each on its own, bool (n, c, ..).
    """
    result: np.ndarray = logits.argmax(axis=1) if exclusive else logits > 0
    return result


def margin(logits: np.ndarray, exclusive: bool = True) -> np.ndarray:
    """Return how far each decision of `decided` is from another one, in logits: of its shape.

    The distance of the highest logit to the second highest (of a single one to 0); or of each logit to 0.
    """
    if not exclusive:
        return np.abs(logits)
    top = np.sort(logits, axis=1)
    return top[:, -1] - top[:, -2] if logits.shape[1] > 1 else np.abs(top[:, -1])
