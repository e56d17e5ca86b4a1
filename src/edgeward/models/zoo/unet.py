"""U-Net, the reference of segmentation: MONAI's, with residual units.

Ronneberger et al.: U-Net (arXiv 1505.04597), in the form of Kerfoot et al. (STACOM 2018,
doi 10.1007/978-3-030-12029-0_40): strided convolutions down, transposed ones up. MONAI is imported
when a network is built, since that takes seconds.
"""

from __future__ import annotations

from torch import Tensor

from edgeward.models.dense import Segmenter, check_sides


class UNet(Segmenter):
    """The network; keywords as in `zoo`.

    Parameters
    ----------
    widths : channels at full resolution and after each halving; the sides of the input must be divisible by all halvings
        (five widths: 16).
    units : convolutions of a residual unit; 0 for plain convolutions.
    norm, act : MONAI's names of normalisation and activation. Batch norm and ReLU go into the
        convolutions when deployed; MONAI's own defaults, instance norm and PReLU, do not.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_chans: int,
        image_size: tuple[int, ...],
        drop_rate: float,
        widths: list[int],
        units: int,
        norm: str,
        act: str,
    ) -> None:
        from monai.networks.nets.unet import UNet as MonaiUNet

        super().__init__()
        halvings = len(widths) - 1
        check_sides(image_size, halvings)
        self.net = MonaiUNet(
            spatial_dims=len(image_size),
            in_channels=in_chans,
            out_channels=num_classes,
            channels=widths,
            strides=[2] * halvings,
            num_res_units=units,
            norm=norm,
            act=act,
            dropout=drop_rate,
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


build = UNet
