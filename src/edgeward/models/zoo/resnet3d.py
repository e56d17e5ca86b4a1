"""ResNet for volumes: MONAI's, after Hara, Kataoka, Satoh: Can Spatiotemporal 3D CNNs Retrace the History of 2D CNNs and ImageNet? (CVPR 2018).

MONAI is imported when a network is built, since that takes seconds.
"""

from __future__ import annotations

from typing import Any

from torch import nn

AXES = (2, 3)
BLOCKS = {10: [1, 1, 1, 1], 18: [2, 2, 2, 2], 34: [3, 4, 6, 3]}


def build(
    *,
    num_classes: int,
    in_chans: int,
    image_size: tuple[int, ...],
    drop_rate: float,
    depth: int,
    widths: list[int],
) -> nn.Module:
    """Build a ResNet of basic blocks, keywords as in `zoo`; of images in the plane, too.

    Parameters
    ----------
    depth : 10, 18 or 34 layers. widths : channels of the four stages; the paper has 64, 128, 256 and 512.

    Raises
    ------
    ValueError
        If there is no network of that depth, or no four widths.
    """
    from monai.networks.nets.resnet import ResNet

    if depth not in BLOCKS:
        raise ValueError(f"depth is {depth}, there are {', '.join(map(str, BLOCKS))}")
    if len(widths) != 4:
        raise ValueError(f"widths has {len(widths)} entries, four stages need one each")
    network: Any = ResNet(
        "basic",
        BLOCKS[depth],
        widths,
        spatial_dims=len(image_size),
        n_input_channels=in_chans,
        conv1_t_size=3,
        conv1_t_stride=1,
        no_max_pool=False,
        num_classes=num_classes,
    )
    if drop_rate:
        network.fc = nn.Sequential(nn.Dropout(drop_rate), network.fc)
    return network
