"""DS-CNN, the depthwise-separable network for microcontrollers, on images.

Zhang, Suda, Lai, Chandra: Hello Edge: Keyword Spotting on Microcontrollers (arXiv 1711.07128), and
the MLPerf Tiny keyword-spotting reference: one strided convolution, then depthwise-separable
blocks of one width, average pooling, one linear layer. Images are square where spectrograms are
not, so the first kernel is 3x3 and every second block halves the resolution.
"""

from __future__ import annotations

from torch import nn


def _unit(in_chans: int, out_chans: int, kernel: int, stride: int, groups: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_chans, out_chans, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_chans),
        nn.ReLU(inplace=True),
    )


def build(
    *,
    num_classes: int,
    in_chans: int,
    image_size: tuple[int, int],
    drop_rate: float,
    width: int,
    blocks: int,
) -> nn.Module:
    """Build DS-CNN with `blocks` depthwise-separable blocks of `width` channels.

    Parameters
    ----------
    width : channels of every layer; the paper's small, medium and large have 64, 172 and 276.
    blocks : depthwise-separable blocks, of which every second one halves the resolution; the paper's have 4, 4 and 5.
    """
    if min(image_size) < 2 ** (1 + blocks // 2):
        raise ValueError(f"{blocks} blocks halve {image_size} below one pixel")
    layers: list[nn.Module] = [_unit(in_chans, width, 3, 2, 1)]
    for index in range(blocks):
        stride = 2 if index % 2 == 1 else 1
        layers += [_unit(width, width, 3, stride, width), _unit(width, width, 1, 1, 1)]
    return nn.Sequential(
        *layers,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(drop_rate),
        nn.Linear(width, num_classes),
    )
