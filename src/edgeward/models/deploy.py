"""What ships: normalisation and network in one module, and its single-branch form."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import nn

from edgeward.core.errors import UserError


class Deployable(nn.Module):
    """A network that takes images as they are stored and normalises them itself.

    Parameters
    ----------
    net : module from normalised float32 (b, c, \*spatial) to logits.
    mean, std : per channel, on the scale 0-1, as in ``card.json``.
    spatial_dims : 2 for images, 3 for volumes.

    Notes
    -----
    ``forward`` takes float32 (b, c, \*spatial) with values 0-255 and returns float32 (b, n_classes),
    or (b, n_labels, \*spatial) for segmentation.
    The normalisation is one multiply-add, ``x * scale + bias`` with ``scale = 1 / (255 std)`` and
    ``bias = -mean / std``, so that it survives export as two elementwise operators.
    """

    scale: torch.Tensor
    bias: torch.Tensor

    def __init__(
        self,
        net: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        if len(mean) != len(std) or not all(s > 0 for s in std):
            raise UserError(
                f"normalisation needs a positive std for every channel, got mean {list(mean)} and "
                f"std {list(std)}: check channel_mean and channel_std in card.json."
            )
        centre, spread = torch.tensor(list(mean)).double(), torch.tensor(list(std)).double()
        self.net = net
        shape = (1, -1, *[1] * spatial_dims)
        self.register_buffer("scale", (1 / (255 * spread)).float().view(shape))
        self.register_buffer("bias", (-centre / spread).float().view(shape))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.net(image * self.scale + self.bias)

    def train_outputs(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Return the logits that a segmentation network trains on (`models.dense.Segmenter`)."""
        return self.net.train_outputs(image * self.scale + self.bias)


def reparameterize(module: nn.Module) -> nn.Module:
    """Return a copy in eval mode whose multi-branch blocks (MobileOne, FastViT, ..) have one branch.

    The outputs equal those of ``module.eval()`` up to rounding; all parameters of the copy are
    trainable. Modules without such blocks come back as a plain copy. A block takes part if it has
    ``fuse``, ``reparameterize`` or ``switch_to_deploy``, as timm's do.
    """
    from timm.utils.model import reparameterize_model

    copy = deepcopy(module).eval()  # the blocks fuse running statistics
    return reparameterize_model(copy, inplace=True).eval().requires_grad_(True)
