"""The selective scan as its equation reads, in float64: what every other form is compared with."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]


def sequential_scan(
    u: Floats, dt: Floats, a: Floats, b: Floats, c: Floats, state: Floats | None = None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the outputs (L, K, batch, D) and the last state (K, batch, N, D), float64.

    h_t = exp(dt_t A) h_{t-1} + B_t dt_t u_t and y_t = C_t h_t, elementwise in the channel (Gu & Dao,
    Mamba, arXiv 2312.00752, equations 2a-2b and algorithm 2, with their simplified
    discretisation of B).

    Parameters
    ----------
    u, dt : input and step size (L, K, batch, D).
    a : decay rates A (K, N, D), negative.
    b, c : input and output maps B, C (L, K, batch, N).
    state : h_0 (K, batch, N, D); zero if not given.
    """
    u, dt, a, b, c = (np.asarray(x, dtype=np.float64) for x in (u, dt, a, b, c))
    length, directions, batch, channels = u.shape
    h = np.zeros((directions, batch, a.shape[1], channels))
    if state is not None:
        h = h + state
    y = np.empty_like(u)
    for t in range(length):
        decay = np.exp(dt[t, :, :, None, :] * a[:, None])
        h = decay * h + b[t][..., None] * (dt[t] * u[t])[:, :, None, :]
        y[t] = (c[t][..., None] * h).sum(-2)
    return y, h
