"""From a model config to a network with random weights, checked to take the given image size."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence

import torch
from torch import nn

from edgeward.core.errors import UserError, unknown
from edgeward.models import zoo
from edgeward.models.config import ModelConfig


def build(
    cfg: ModelConfig, *, num_classes: int, in_chans: int, image_size: Sequence[int]
) -> nn.Module:
    """Build the network of `cfg` from scratch (never pretrained), in train mode.

    Parameters
    ----------
    cfg : the ``model`` config group.
    num_classes : length of the logits.
    in_chans : channels of the input, 1 or 3 as a rule.
    image_size : (height, width) in pixels. Networks whose parameters depend on the input size
        (position tables, attention biases) are built for it.

    Returns
    -------
    A module from float32 (b, in_chans, h, w), normalised, to logits (b, num_classes).

    Raises
    ------
    UserError
        If the architecture is unknown, an option does not exist, or the network cannot take images
        of this size.
    """
    make = _timm_factory(cfg) if cfg.builder == "timm" else _own_factory(cfg)
    size = (int(image_size[0]), int(image_size[1]))
    try:
        net = make(num_classes, in_chans, size)
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise UserError(
            f"model '{cfg.name}': {cfg.builder} cannot build '{cfg.architecture}' for "
            f"{in_chans}x{size[0]}x{size[1]} images with options {dict(cfg.options)}: {error}. "
            f"Change config/model/{cfg.name}.yaml, or the image size of the data."
        ) from error
    if cfg.branch_gain < 1:
        damp_branches(net, cfg)
    _try_out(net, cfg, num_classes, in_chans, size)
    return net.train()


def damp_branches(net: nn.Module, cfg: ModelConfig) -> None:
    """Start multi-branch blocks near the identity: scale the norms of the branches beside it.

    A block of MobileOne sums its identity branch with four or five convolutions, each normalised to
    unit variance, so at first hardly anything of the input gets through twenty of them. Batch norm
    in residual branches helps since it biases blocks towards the identity (De & Smith, NeurIPS
    2020, arXiv 2002.10444); a gain below 1 restores that bias. Structure and deployed form stay.

    Raises
    ------
    UserError
        If no block of `net` has an identity branch beside convolution branches (``identity``,
        ``conv_kxk`` and ``conv_scale``, as timm names them).
    """
    damped = 0
    for block in net.modules():
        if getattr(block, "identity", None) is None or not hasattr(block, "conv_kxk"):
            continue
        for branch in [*block.conv_kxk, getattr(block, "conv_scale", None)]:
            if branch is not None:
                nn.init.constant_(branch.bn.weight, cfg.branch_gain)
                damped += 1
    if not damped:
        raise UserError(
            f"model '{cfg.name}': branch_gain is {cfg.branch_gain}, but '{cfg.architecture}' has no "
            f"blocks with an identity branch. Set it to 1 in config/model/{cfg.name}.yaml."
        )


Factory = Callable[[int, int, tuple[int, int]], nn.Module]


def _timm_factory(cfg: ModelConfig) -> Factory:
    import timm

    known = timm.list_models()
    if cfg.architecture not in known:
        raise unknown("timm model", cfg.architecture, known, f"config/model/{cfg.name}.yaml")
    pretrained = timm.get_pretrained_cfg(cfg.architecture)
    fixed_size = pretrained is not None and pretrained.fixed_input_size

    def make(num_classes: int, in_chans: int, size: tuple[int, int]) -> nn.Module:
        extra = {"img_size": size} if fixed_size else {}
        return timm.create_model(
            cfg.architecture,
            pretrained=False,
            num_classes=num_classes,
            in_chans=in_chans,
            drop_rate=cfg.drop_rate,
            **extra,
            **cfg.options,
        )

    return make


def _own_factory(cfg: ModelConfig) -> Factory:
    known = [module.name for module in pkgutil.iter_modules(zoo.__path__)]
    if cfg.architecture not in known:
        raise unknown("model file", cfg.architecture, known, f"config/model/{cfg.name}.yaml")
    factory = importlib.import_module(f"{zoo.__name__}.{cfg.architecture}").build

    def make(num_classes: int, in_chans: int, size: tuple[int, int]) -> nn.Module:
        return factory(
            num_classes=num_classes,
            in_chans=in_chans,
            image_size=size,
            drop_rate=cfg.drop_rate,
            **cfg.options,
        )

    return make


def _try_out(
    net: nn.Module, cfg: ModelConfig, num_classes: int, in_chans: int, size: tuple[int, int]
) -> None:
    """Run two blank images through `net`; turn what goes wrong into a UserError."""
    where = f"model '{cfg.name}' ({cfg.architecture}) with {in_chans}x{size[0]}x{size[1]} images"
    advice = f"Choose larger images in the data config, or a model other than '{cfg.name}'."
    try:
        with torch.no_grad():
            logits = net.eval()(torch.zeros(2, in_chans, *size))
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{where} does not run: {reason}. {advice}") from error
    if not isinstance(logits, torch.Tensor) or logits.shape != (2, num_classes):
        got = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise UserError(f"{where} gives {got} instead of (2, {num_classes}) logits. {advice}")
