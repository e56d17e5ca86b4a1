"""What networks for segmentation share: layers by number of dimensions, and what they train on."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CONV: dict[int, type[nn.Conv2d | nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
BATCH_NORM: dict[int, type[nn.BatchNorm2d | nn.BatchNorm3d]] = {
    2: nn.BatchNorm2d,
    3: nn.BatchNorm3d,
}
MAX_POOL: dict[int, type[nn.MaxPool2d | nn.MaxPool3d]] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
LINEAR = {2: "bilinear", 3: "trilinear"}


class Segmenter(nn.Module):
    """A network from float32 (b, c, \\*spatial) to logits (b, n_labels, \\*spatial)."""

    def train_outputs(self, x: Tensor) -> list[Tensor]:
        """Return the logits that training computes its loss on, full resolution first.

        One entry, what `forward` gives, where there is no deep supervision; otherwise the further
        ones are coarser, each (b, n_labels, \\*spatial / 2**k).
        """
        return [self(x)]


def check_sides(size: tuple[int, ...], halvings: int) -> None:
    """Refuse sides that `halvings` poolings do not divide evenly.

    Raises
    ------
    ValueError
    """
    if any(side % (1 << halvings) for side in size):
        raise ValueError(f"it halves {halvings} times: sides must be multiples of {1 << halvings}")


def double(x: Tensor) -> Tensor:
    """Double the sides of (b, c, \*spatial), every pixel or voxel becoming a block of equal ones.

    Volumes are doubled slice by slice, and the slices then repeated: onnxruntime's kernel for five
    dimensions goes voxel by voxel and takes ten times as long.
    """
    if x.dim() == 4:
        return F.interpolate(x, scale_factor=2.0, mode="nearest")
    slices = F.interpolate(x.flatten(1, 2), scale_factor=2.0, mode="nearest")
    slices = slices.unflatten(1, x.shape[1:3])
    return torch.stack([slices, slices], 3).flatten(2, 3)


def enlarge(x: Tensor, align_corners: bool) -> Tensor:
    """Double the sides of (b, c, \\*spatial) by linear interpolation."""
    mode = LINEAR[x.dim() - 2]
    return F.interpolate(x, scale_factor=2.0, mode=mode, align_corners=align_corners)
