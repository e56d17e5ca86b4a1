"""What a network costs: multiply-accumulates."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def macs(module: nn.Module, example: torch.Tensor) -> int:
    """Return the multiply-accumulates of one image: convolutions, linear layers, matrix products.

    By torch's own counter; recurrences, norms and activations are not counted. A copy is run, since
    some networks keep tables of what they computed (attention biases), which export would write out.

    Parameters
    ----------
    example : float32 (b, c, h, w).
    """
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        copy.deepcopy(module)(example)
    return int(counter.get_total_flops()) // (2 * len(example))
