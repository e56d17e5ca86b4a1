"""The selective scan (S6) of Mamba as one torch operator that trains on any device.

h_t = exp(dt_t A) h_{t-1} + B_t (dt_t u_t),  y_t = C_t h_t, for all directions and channels at once
(Gu & Dao, arXiv 2312.00752, algorithm 2). Time is the leading axis, so that a step is one
contiguous slab: u, dt, y are (L, K, batch, D), B and C are (L, K, batch, N), A is (K, N, D).

Decays and inputs are computed for a chunk of steps at once; a step is then one in-place
multiply-add. Kept for the backward pass is the state before each chunk; the states within a chunk
are computed again when its gradients are. With chunks of sqrt(L) steps that is memory for about
2 sqrt(L) states instead of L (Chen et al., arXiv 1604.06174).

Export keeps the operator as one node, which `edgeward.runtimes.onnxruntime.lowering.selective` turns into
standard ONNX.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor


def selective_scan(u: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Return y, shaped like `u`.

    Parameters
    ----------
    u : input (L, K, batch, D), float32 or float64; under autocast everything becomes float32.
    dt : step sizes (L, K, batch, D), positive; softplus has been applied.
    a : decay rates A (K, N, D), negative.
    b, c : maps B, C (L, K, batch, N) into and out of the state.
    """
    return _scan(u, dt, a, b, c)[0]


def steps_at_once(length: int) -> int:
    """Return how many steps are computed at once: ceil(sqrt(length))."""
    return math.isqrt(length - 1) + 1


def _advance(u: Tensor, dt: Tensor, a: Tensor, b: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Return the decays and the states of one chunk, both (T, K, batch, N, D)."""
    decay = torch.exp_(dt.unsqueeze(-2) * a.unsqueeze(1))
    states = b.unsqueeze(-1) * (dt * u).unsqueeze(-2)
    # Unbinding makes all views at once: indexing step by step takes as long as the arithmetic.
    for here, kept in zip(states.unbind(), decay.unbind(), strict=True):
        state = here.addcmul_(kept, state)
    return decay, states


def _contiguous(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(x.contiguous() for x in tensors)


@torch.library.custom_op("edgeward::selective_scan", mutates_args=())
def _scan(u: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Return y and the state before each chunk (chunks, K, batch, N, D)."""
    _check(u, dt, a, b, c)
    length, directions, batch, channels = u.shape
    u, dt, a, b, c = _contiguous(u, dt, a, b, c)
    step = steps_at_once(length)
    y = torch.empty_like(u)
    starts = u.new_zeros((-(-length // step), directions, batch, a.shape[1], channels))
    for chunk, first in enumerate(range(0, length, step)):
        part = slice(first, first + step)
        _, states = _advance(u[part], dt[part], a, b[part], starts[chunk])
        y[part] = (c[part].unsqueeze(-2) @ states).squeeze(-2)
        if chunk + 1 < len(starts):
            starts[chunk + 1] = states[-1]
    return y, starts


@_scan.register_fake
def _(u: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    _check(u, dt, a, b, c)
    length, directions, batch, channels = u.shape
    chunks = -(-length // steps_at_once(length))
    return torch.empty_like(u), u.new_empty((chunks, directions, batch, a.shape[1], channels))


def _check(u: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor) -> None:
    length, directions, batch, channels = u.shape
    states = a.shape[1]
    expected = {
        "dt": (dt, (length, directions, batch, channels)),
        "a": (a, (directions, states, channels)),
        "b": (b, (length, directions, batch, states)),
        "c": (c, (length, directions, batch, states)),
    }
    for name, (tensor, shape) in expected.items():
        if tuple(tensor.shape) != shape or tensor.dtype != u.dtype:
            raise ValueError(
                f"selective_scan: {name} is {tensor.dtype} {tuple(tensor.shape)}, but u of "
                f"{u.dtype} {tuple(u.shape)} with {states} states asks for {shape}"
            )


@torch.library.custom_op("edgeward::selective_scan_backward", mutates_args=())
def _backward(
    grad: Tensor, u: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, starts: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of u, dt, a, b, c; `grad` is that of y.

    With G_t the gradient of the state h_t: G_t = C_t dy_t + exp(dt_{t+1} A) G_{t+1}, run backwards.
    """
    grad, u, dt, a, b, c = _contiguous(grad, u, dt, a, b, c)
    length = len(u)
    step = steps_at_once(length)
    du, ddt, db, dc = (torch.empty_like(x) for x in (u, dt, b, c))
    da = torch.zeros_like(a)
    after = torch.zeros_like(starts[0])  # exp(dt_{t+1} A) G_{t+1} at the end of the chunk
    for chunk in reversed(range(len(starts))):
        part = slice(chunk * step, (chunk + 1) * step)
        decay, states = _advance(u[part], dt[part], a, b[part], starts[chunk])
        dc[part] = (states @ grad[part].unsqueeze(-1)).squeeze(-1)
        g = c[part].unsqueeze(-1) * grad[part].unsqueeze(-2)
        g[-1] += after
        later = list(zip(g.unbind(), decay.unbind(), strict=True))[::-1]
        for (here, kept), (before, _) in pairwise(later):
            before.addcmul_(kept, here)
        after = decay[0] * g[0]
        dx = (b[part].unsqueeze(-2) @ g).squeeze(-2)  # of dt u
        db[part] = (g @ (dt[part] * u[part]).unsqueeze(-1)).squeeze(-1)
        # What remains is the gradient of dt A: G_t decay_t h_{t-1}.
        g *= decay
        g[1:] *= states[:-1]
        g[0] *= starts[chunk]
        ddt[part] = dx * u[part] + (g * a.unsqueeze(1)).sum(-2)
        du[part] = dx * dt[part]
        da += (g * dt[part].unsqueeze(-2)).sum((0, 2))
    return du, ddt, da, db, dc


@_backward.register_fake
def _(grad: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:  # noqa: ARG001
    return tuple(torch.empty_like(x) for x in inputs[:5])


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs, output[1])
    ctx.set_materialize_grads(True)


def _differentiate(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, ...]:
    return _backward(grad, *ctx.saved_tensors)


_scan.register_autograd(_differentiate, setup_context=_save)
for _device in ("cpu", "cuda"):
    _scan.register_autocast(_device, torch.float32)
    _backward.register_autocast(_device, torch.float32)
