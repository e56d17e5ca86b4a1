"""The backbone of `zoo.ssd` with S6 proper in its scan blocks: the twin to compare SSD with.

All is the same but the recurrence: a decay for every channel and state, and a step size for every
channel through a low-rank layer (Gu and Dao, arXiv 2312.00752, section 3.6), where SSD has one decay
and step size for each head of channels. S6 has no fused operator in stock onnxruntime; it runs as
ONNX Scan.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeward.models.ssm.orders import inverse, order_indices
from edgeward.models.ssm.selective import selective_scan
from edgeward.models.ssm.ss2d import start_rates, start_steps
from edgeward.models.zoo.ssd import TokenBlock, backbone

AXES = (2, 3)


class SelectiveBlock(TokenBlock):
    """S6 over all tokens of the image; each direction scans channels of its own.

    Parameters
    ----------
    dim : channels in and out. inner : channels that are scanned, split over the directions.
    size : (height, width) of the token grid, or (depth, height, width). order : of `models.ssm.orders`.
    state : length of the state of a channel.
    """

    forth: Tensor
    back: Tensor

    def __init__(self, dim: int, inner: int, size: tuple[int, ...], order: str, state: int) -> None:
        indices = order_indices(order, *size)
        directions = len(indices)
        if inner % directions:
            raise ValueError(
                f"{inner} scanned channels cannot be split over the {directions} directions "
                f"of order '{order}'"
            )
        super().__init__(dim, inner, directions * state)
        self.directions, self.state = directions, state
        # Rows of (token, direction) that come next as (step, direction), and back.
        k = torch.arange(directions)
        for name, rows in (("forth", indices), ("back", inverse(indices))):
            places = torch.from_numpy(rows.T) * directions + k
            self.register_buffer(name, places.flatten(), persistent=False)
        rank = math.ceil(dim / 16)
        self.step = nn.Sequential(nn.Linear(dim, rank, bias=False), nn.Linear(rank, inner))
        self.rate = nn.Parameter(torch.empty(state * inner))  # a vector: not decayed
        with torch.no_grad():
            self.step[1].weight.uniform_(-(rank**-0.5), rank**-0.5)
            self.step[1].bias.copy_(start_steps(inner))
            self.rate.copy_(start_rates(directions, state, inner // directions))

    def _in_order(self, rows: Tensor, batch: int) -> Tensor:
        """Reorder (batch * tokens, directions * c) to (steps, directions, batch, c)."""
        split = rows.reshape(batch, len(self.forth), -1).transpose(0, 1)
        return split.index_select(0, self.forth).unflatten(0, (-1, self.directions))

    def mix(self, tokens: Tensor, batch: int) -> Tensor:
        mixed = selective_scan(
            self._in_order(self.value(tokens), batch),
            self._in_order(F.softplus(self.step(tokens)), batch),
            -self.rate.exp().view(self.directions, self.state, -1),
            self._in_order(self.key(tokens), batch),
            self._in_order(self.query(tokens), batch),
        )
        return mixed.flatten(0, 1).index_select(0, self.back).transpose(0, 1)


def build(
    *,
    num_classes: int,
    in_chans: int,
    image_size: tuple[int, ...],
    drop_rate: float,
    dims: list[int],
    inner: list[int],
    blocks: str,
    expand: int,
    order: str,
    state: int,
) -> nn.Module:
    """Build the backbone; options are those of `zoo.ssd.build`, without heads."""

    def scan(dim: int, scanned: int, grid: tuple[int, ...]) -> nn.Module:
        return SelectiveBlock(dim, scanned, grid, order, state)

    return backbone(num_classes, in_chans, image_size, drop_rate, dims, inner, blocks, expand, scan)
