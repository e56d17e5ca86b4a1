"""SS2D: selective scans (S6) over the tokens of an image in several directions, summed.

The token mixer of VMamba (Liu et al., arXiv 2401.10166, section 4.2, figure 3) and, with its first
version's gate, of MedMamba (Yue and Li, arXiv 2403.03849).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeward.models.ssm.orders import inverse, order_indices
from edgeward.models.ssm.selective import selective_scan


class SS2D(nn.Module):
    """Float (batch, height, width, dim) to the same.

    Every direction has its own B, C, step sizes, A and D, computed from the tokens before they are
    put in order, which is the same and needs one matrix product for all; the skips D u are added
    after the directions are summed, as (sum of D) u.

    Parameters
    ----------
    dim : channels in and out.
    size : (height, width) of the token grid.
    order : of `models.ssm.orders`.
    d_state : length N of the state of a channel.
    expand : scanned channels over `dim`.
    gated : multiply by SiLU of a second projection before the last one.
    conv_bias : of the depthwise convolution.

    Notes
    -----
    The parameters of the recurrence are vectors, viewed as (K, ..): they are not decayed, as the
    authors of Mamba ask.
    """

    read: Tensor
    fetch: Tensor
    restore: Tensor

    def __init__(
        self,
        dim: int,
        size: tuple[int, int],
        *,
        order: str,
        d_state: int,
        expand: float,
        gated: bool,
        conv_bias: bool,
    ) -> None:
        super().__init__()
        indices = order_indices(order, *size)
        directions, tokens = indices.shape
        inner, rank = int(expand * dim), math.ceil(dim / 16)
        self.directions, self.inner, self.rank, self.d_state = directions, inner, rank, d_state
        k = torch.arange(directions)
        steps = torch.from_numpy(indices.T)  # (L, K): token of each step
        back = torch.from_numpy(inverse(indices).T)  # (L, K): step of each token
        # Rows of (L), (K, L) and (L, K) that come next in the order (L, K).
        self.register_buffer("read", steps.flatten(), persistent=False)
        self.register_buffer("fetch", (steps + k * tokens).flatten(), persistent=False)
        self.register_buffer("restore", (back * directions + k).flatten(), persistent=False)

        self.in_proj = nn.Linear(dim, 2 * inner if gated else inner, bias=False)
        self.conv = nn.Conv2d(inner, inner, 3, padding=1, groups=inner, bias=conv_bias)
        self.x_proj = nn.Parameter(torch.empty(directions, inner, rank + 2 * d_state))
        self.dt_proj = nn.Parameter(torch.empty(directions, rank, inner))
        self.dt_bias = nn.Parameter(torch.empty(directions * inner))
        self.a_log = nn.Parameter(torch.empty(directions * d_state * inner))
        self.skip = nn.Parameter(torch.ones(directions * inner))
        self.norm = nn.LayerNorm(inner)
        self.out_proj = nn.Linear(inner, dim, bias=False)
        self._start()

    def _start(self) -> None:
        """Start A at -1 .. -N and step sizes log-uniform in 1e-3 .. 0.1, as Mamba does."""
        nn.init.uniform_(self.x_proj, -(self.inner**-0.5), self.inner**-0.5)
        nn.init.uniform_(self.dt_proj, -(self.rank**-0.5), self.rank**-0.5)
        with torch.no_grad():
            self.dt_bias.copy_(start_steps(len(self.dt_bias)))
            self.a_log.copy_(start_rates(self.directions, self.d_state, self.inner))

    def forward(self, x: Tensor) -> Tensor:
        batch, height, width, _ = x.shape
        k, n = self.directions, self.d_state
        x = self.in_proj(x)
        gate = None
        if x.shape[-1] != self.inner:
            x, gate = x.split(self.inner, -1)
        x = F.silu(self.conv(x.permute(0, 3, 1, 2)))
        u = x.flatten(2).permute(2, 0, 1)  # (L, batch, inner)

        maps = u.reshape(-1, self.inner) @ self.x_proj  # (K, L * batch, rank + 2 N)
        low, b_and_c = maps.split([self.rank, 2 * n], -1)
        dt = F.softplus(low @ self.dt_proj + self.dt_bias.view(k, 1, -1))
        b, c = self._in_order(b_and_c, batch).split(n, -1)
        y = selective_scan(
            u.index_select(0, self.read).unflatten(0, (-1, k)),
            self._in_order(dt, batch),
            -self.a_log.exp().view(k, n, -1),
            b,
            c,
        )
        y = y.flatten(0, 1).index_select(0, self.restore).unflatten(0, (-1, k)).sum(1)
        y = y + u * self.skip.view(k, -1).sum(0)
        y = self.norm(y).permute(1, 0, 2).unflatten(1, (height, width))
        if gate is not None:
            y = y * F.silu(gate)
        return self.out_proj(y)

    def _in_order(self, rows: Tensor, batch: int) -> Tensor:
        """Put (K, L * batch, c) into scan order (L, K, batch, c)."""
        split = rows.reshape(len(self.fetch), batch, rows.shape[-1])
        return split.index_select(0, self.fetch).unflatten(0, (-1, self.directions))


def start_steps(count: int) -> Tensor:
    """Return biases whose softplus is log-uniform in 1e-3 .. 0.1."""
    step = torch.empty(count).uniform_(math.log(1e-3), math.log(0.1)).exp()
    return step + torch.log(-torch.expm1(-step))


def start_rates(directions: int, states: int, channels: int) -> Tensor:
    """Return log(-A), flat from (directions, states, channels), where A is -1 .. -states."""
    return torch.arange(1, states + 1).log()[:, None].expand(directions, -1, channels).flatten()


def start_linear(module: nn.Module) -> None:
    """Start a linear layer as VMamba and MedMamba do; leave every other module."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
