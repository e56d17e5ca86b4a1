"""What is constrained, differentiable: soft recall of a class, and kernel calibration error."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def soft_recall(
    logits: torch.Tensor, labels: torch.Tensor, classes: Sequence[int], temperature: float
) -> torch.Tensor:
    """Return the soft recall of each class, the mean of ``sigmoid(margin / temperature)`` over its images.

    The margin is the logit of the true class less the largest other one. The decision is the argmax of
    the raw logits, so the margin takes no ``logit_shift``. As the temperature goes to 0 this becomes the
    share of images that are found (a tie counts 1/2).

    Parameters
    ----------
    logits : float, shape (n, n_classes). labels : int64, shape (n,).
    classes : label numbers, each with at least one image.
    temperature : in logits.

    Returns
    -------
    float, shape (len(classes),), in (0, 1).
    """
    own = logits.gather(1, labels[:, None])
    mine = torch.nn.functional.one_hot(labels, logits.shape[1]).bool()
    other = logits.masked_fill(mine, -torch.inf).amax(dim=1, keepdim=True)
    found = torch.sigmoid((own - other) / temperature)[:, 0]
    return torch.stack([found[labels == k].mean() for k in classes])


def soft_call_recall(
    logits: torch.Tensor, truth: torch.Tensor, classes: Sequence[int], temperature: float
) -> torch.Tensor:
    """Return the soft recall of each finding, the mean of ``sigmoid(logit / temperature)`` over the images that have it.

    Parameters
    ----------
    logits : float, shape (n, c), above 0 where a finding is called. truth : bool, shape (n, c).
    classes : numbers of the findings, each with at least one image.
    temperature : in logits.

    Returns
    -------
    float, shape (len(classes),), in (0, 1).
    """
    found = torch.sigmoid(logits / temperature)
    return torch.stack([found[truth[:, k], k].mean() for k in classes])


def decision_confidence(
    logits: torch.Tensor, labels: torch.Tensor, shift: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the natural-prevalence probability of the decision, and whether the decision is right.

    Parameters
    ----------
    logits : float, shape (n, n_classes). labels : int64, shape (n,).
    shift : float, shape (n_classes,): the probability is ``softmax(logits + shift)`` at argmax(logits).

    Returns
    -------
    float (n,), with gradient; float (n,) of 0 and 1.
    """
    decision = logits.argmax(dim=1)
    p = torch.softmax(logits + shift, dim=1)
    return p.gather(1, decision[:, None])[:, 0], (decision == labels).to(logits.dtype)


def kernel_ece(
    confidence: torch.Tensor, correct: torch.Tensor, weights: torch.Tensor, bandwidth: float
) -> torch.Tensor:
    """Return the expected calibration error with a Gaussian kernel in the place of bins.

    ``sum_i w_i |r(c_i)|``, where r is the kernel regression (Nadaraya 1964, Watson 1964) of the residual
    ``c_j - y_j`` on the confidence, with weights w_j. As in Wang & Golebiowski (TMLR 2024), where
    it is called SECE; every image sees a whole neighbourhood, so the gradient is smoother than that of a
    histogram. Like all absolute calibration errors it is biased upwards on few images, so compare
    two models on the same ones.

    Parameters
    ----------
    confidence : float, shape (n,), in [0, 1]. correct : float, shape (n,), 0 or 1.
    weights : float, shape (n,), positive, sum 1: what each image stands for.
    bandwidth : standard deviation of the kernel, in units of confidence.
    """
    distance = (confidence[:, None] - confidence[None, :]) / bandwidth
    kernel = torch.exp(-0.5 * distance**2) * weights
    residual = kernel @ (confidence - correct) / kernel.sum(dim=1)
    return (weights * residual.abs()).sum()


def natural_weights(labels: torch.Tensor, prior: torch.Tensor) -> torch.Tensor:
    """Return weights that give a sample of any class mix the mix of `prior`: float (n,), sum 1.

    Parameters
    ----------
    labels : int64, shape (n,). prior : float, shape (n_classes,). Classes that do not occur are
        left out of the prior.
    """
    counts = torch.bincount(labels, minlength=len(prior)).to(prior)
    weights = (prior / counts.clamp(min=1))[labels]
    return weights / weights.sum()
