"""The Mamba block (S6 with a causal convolution and a gate) over the tokens of a grid.

Gu and Dao: Mamba: Linear-Time Sequence Modeling with Selective State Spaces (arXiv 2312.00752),
figure 3 and section 3.6. An order of several directions runs the same block over each of its
sequences and averages what comes back, so every order has the same parameters; ``raster`` is the
block as published.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeward.models.ssm.orders import inverse, order_indices
from edgeward.models.ssm.selective import selective_scan
from edgeward.models.ssm.ss2d import start_rates, start_steps


class Mamba(nn.Module):
    """Float tokens (L, batch, dim), in row-major order of the grid, to the same.

    Parameters
    ----------
    dim : channels in and out.
    grid : sides of the token grid; L is their product.
    order : of `models.ssm.orders`.
    d_state : length N of the state of a channel.
    d_conv : taps of the causal convolution.
    expand : scanned channels over `dim`.

    Notes
    -----
    Tokens come first, as the scan wants them. The decay rates are a vector, viewed as (N, channels):
    they are not decayed, as the authors of Mamba ask.
    """

    forth: Tensor
    back: Tensor

    def __init__(
        self,
        dim: int,
        grid: tuple[int, ...],
        *,
        order: str,
        d_state: int,
        d_conv: int,
        expand: int,
    ) -> None:
        super().__init__()
        indices = order_indices(order, *grid)
        self.directions, self.d_state, self.rank = len(indices), d_state, math.ceil(dim / 16)
        if order != "raster":
            # Rows of (L) that come next in the order (L, K), and rows of (L, K) that lead back.
            back = inverse(indices).T * self.directions + np.arange(self.directions)
            for name, rows in (("forth", indices.T), ("back", back)):
                self.register_buffer(name, torch.from_numpy(rows.flatten()), persistent=False)
        inner = expand * dim
        self.in_proj = nn.Linear(dim, 2 * inner, bias=False)
        self.conv = nn.Conv1d(inner, inner, d_conv, groups=inner)
        self.x_proj = nn.Linear(inner, self.rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(self.rank, inner)
        self.a_log = nn.Parameter(start_rates(1, d_state, inner))
        self.skip = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, dim, bias=False)
        with torch.no_grad():
            self.dt_proj.weight.uniform_(-(self.rank**-0.5), self.rank**-0.5)
            self.dt_proj.bias.copy_(start_steps(inner))

    def forward(self, x: Tensor) -> Tensor:
        if self.directions == 1:
            return self._one_way(x)
        length, batch, dim = x.shape
        several = x.index_select(0, self.forth).view(length, self.directions * batch, dim)
        mixed = self._one_way(several).reshape(length * self.directions, batch, dim)
        return mixed.index_select(0, self.back).view(length, self.directions, batch, dim).mean(1)

    def _one_way(self, x: Tensor) -> Tensor:
        u, gate = self.in_proj(x).chunk(2, -1)
        taps = self.conv.kernel_size[0]
        u = self.conv(F.pad(u.permute(1, 2, 0), (taps - 1, 0))).permute(2, 0, 1)
        u = F.silu(u)
        low, b, c = self.x_proj(u).split([self.rank, self.d_state, self.d_state], -1)
        y = selective_scan(
            u.unsqueeze(1),
            F.softplus(self.dt_proj(low)).unsqueeze(1),
            -self.a_log.exp().view(1, self.d_state, -1),
            b.unsqueeze(1),
            c.unsqueeze(1),
        ).squeeze(1)
        return self.out_proj((y + u * self.skip) * F.silu(gate))
