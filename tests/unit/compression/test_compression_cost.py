"""Multiply-accumulates in closed form."""

from __future__ import annotations

import torch
from torch import nn

from edgeward.compression.cost import macs


class Remembering(nn.Module):
    """A convolution and a linear layer that keep a table of what they saw, as attention biases do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.head = nn.Linear(8, 5)
        self.table: torch.Tensor | None = None

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.table = self.conv(image).mean((2, 3))
        logits: torch.Tensor = self.head(self.table)
        return logits


def test_closed_form_per_image_and_nothing_left_behind() -> None:
    net = Remembering().eval()
    assert macs(net, torch.rand(4, 3, 10, 10)) == 5 * 5 * 8 * 3 * 9 + 8 * 5
    assert net.table is None
