"""The recurrence of Mamba-2 (SSD): one decay per head and token.

For each head, with a state S of shape (n, p), starting from zero:

    S_t = exp(g_t) S_{t-1} + k_t v_t^T        o_t = S_t^T q_t

(Dao and Gu, Transformers are SSMs, ICML 2024, arXiv 2405.21060, eq. 6 with C = q, B = k, the step
size folded into k or v, and g = dt * A <= 0). It is the rule ``gated`` of the ONNX operator
LinearAttention (opset 27), which has a fused kernel in onnxruntime; `edgeward.runtimes.onnxruntime.lowering`
turns the operator defined here into that one, or into plain operators.

Shapes throughout: q, k (b, t, groups * n); v (b, t, heads * p); g (b, t, heads), at most 0. Heads
are split evenly over the groups, which share queries and keys, as in the paper's section 7.2.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def chunk_length(length: int) -> int:
    """Return a chunk length near the root of `length`: a power of two in 16..64."""
    return min(64, max(16, 1 << round(math.log2(length) / 2)))


def _check(q: Tensor, k: Tensor, v: Tensor, g: Tensor, heads: int, groups: int) -> None:
    if not (
        q.shape == k.shape
        and q.shape[:2] == v.shape[:2] == g.shape[:2]
        and g.shape[2] == heads
        and v.shape[2] % heads == 0
        and heads % groups == 0
        and q.shape[2] % groups == 0
    ):
        raise ValueError(
            f"gated_scan: q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)} and g "
            f"{tuple(g.shape)} do not fit {heads} heads in {groups} groups"
        )


def _heads(part: Tensor, count: int, heads: int) -> Tensor:
    """Split the channels of (b, t, count * size) and repeat to (b, heads, t, size)."""
    split = part.unflatten(2, (count, -1)).transpose(1, 2)
    return split.repeat_interleave(heads // count, dim=1) if count != heads else split


def sequential(q: Tensor, k: Tensor, v: Tensor, g: Tensor, heads: int, groups: int = 1) -> Tensor:
    """Compute the recurrence token by token: the definition, to compare with. Differentiable."""
    _check(q, k, v, g, heads, groups)
    qs, ks, vs = _heads(q, groups, heads), _heads(k, groups, heads), _heads(v, heads, heads)
    decay = g.exp().transpose(1, 2)
    state = v.new_zeros(len(v), heads, qs.shape[-1], vs.shape[-1])
    out = []
    for i in range(v.shape[1]):
        outer = ks[:, :, i, :, None] * vs[:, :, i, None, :]
        state = state * decay[:, :, i, None, None] + outer
        out.append((qs[:, :, i, None, :] @ state)[:, :, 0])
    return torch.stack(out, 1).flatten(2)


def _segment_decay(g: Tensor) -> Tensor:
    """Return exp of the sum of `g` over (j, i], shape (..., c, c); zero where j > i.

    Every sum runs over its own segment: differences of one running sum would be cheaper, but they
    lose small sums where the running sum is large.
    """
    c = g.shape[-1]
    after = torch.ones(c, c, dtype=torch.bool, device=g.device).tril(-1)
    sums = g.unsqueeze(-1).expand(*g.shape, c).masked_fill(~after, 0).cumsum(-2)
    return sums.exp().tril()


def chunked(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    heads: int,
    groups: int = 1,
    chunk: int | None = None,
) -> Tensor:
    """Compute the recurrence by matrix products inside chunks and a short loop over the chunks.

    Differentiable (arXiv 2405.21060, section 6 and listing 1). With chunks near the root of the
    length t, time and memory grow as t^1.5 up to 4,096 tokens, and linearly from there.
    """
    _check(q, k, v, g, heads, groups)
    length = v.shape[1]
    chunk = chunk or chunk_length(length)
    pad = (0, 0, 0, -length % chunk)

    def split(part: Tensor, count: int) -> Tensor:  # (b, heads, chunks, chunk, size)
        return _heads(F.pad(part, pad), count, heads).unflatten(2, (-1, chunk))

    qs, ks, vs = split(q, groups), split(k, groups), split(v, heads)
    gs = split(g, heads)[..., 0]
    inside = (qs @ ks.transpose(-1, -2) * _segment_decay(gs)) @ vs
    # What a chunk adds to the state by its end, and how much it leaves of what was there.
    to_end = gs.flip(-1).cumsum(-1).flip(-1) - gs
    added = (ks * to_end.exp().unsqueeze(-1)).transpose(-1, -2) @ vs
    left = gs.sum(-1).exp()[..., None, None]
    state = torch.zeros_like(added[:, :, 0])
    found = [state]
    for index in range(added.shape[2] - 1):
        state = state * left[:, :, index] + added[:, :, index]
        found.append(state)
    outside = (qs * gs.cumsum(-1).exp().unsqueeze(-1)) @ torch.stack(found, 2)
    return (inside + outside).flatten(2, 3).transpose(1, 2)[:, :length].flatten(2)


@torch.library.custom_op("edgeward::gated_scan", mutates_args=())
def gated_scan(q: Tensor, k: Tensor, v: Tensor, g: Tensor, heads: int, groups: int) -> Tensor:
    """Compute the recurrence: (b, t, heads * p), dtype of the inputs, contiguous.

    Raises
    ------
    ValueError
        If the shapes do not belong together.

    Notes
    -----
    One node in an exported program. The backward pass computes the chunks again rather than keep
    their matrices, for about a third more time.
    """
    return chunked(q, k, v, g, heads, groups).contiguous()


@gated_scan.register_fake
def _(_q: Tensor, _k: Tensor, v: Tensor, _g: Tensor, _heads: int, _groups: int) -> Tensor:
    return torch.empty_like(v, memory_format=torch.contiguous_format)


def _setup(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def] # noqa: ARG001
    *tensors, ctx.heads, ctx.groups = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
    with torch.enable_grad(), torch.autocast(grad.device.type, enabled=False):
        q, k, v, g = inputs = [tensor.detach().requires_grad_() for tensor in ctx.saved_tensors]
        out = chunked(q, k, v, g, ctx.heads, ctx.groups)
    return (*torch.autograd.grad(out, inputs, grad), None, None)


gated_scan.register_autograd(_backward, setup_context=_setup)
for _device in ("cpu", "cuda"):  # under autocast the recurrence stays in float32
    gated_scan.register_autocast(_device, torch.float32)
