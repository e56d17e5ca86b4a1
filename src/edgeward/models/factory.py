"""From a model config to a network with random weights, checked to take the given image size."""

from __future__ import annotations

import importlib
import math
import pkgutil
from collections.abc import Callable, Sequence

import torch
from torch import nn

from edgeward.core.errors import UserError, unknown
from edgeward.models import zoo
from edgeward.models.config import ModelConfig

# What torch and the networks' own checks raise when layers do not fit together.
PROBLEMS = (TypeError, ValueError, AssertionError, RuntimeError)


class SizeError(UserError):
    """The network is fine, but not at this image size."""


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
        If the architecture is unknown or an option does not exist.
    SizeError
        If the network cannot take images of this size, but takes others.
    """
    make = _timm_factory(cfg) if cfg.builder == "timm" else _own_factory(cfg)
    size = (int(image_size[0]), int(image_size[1]))
    try:
        net = make(num_classes, in_chans, size)
        _try_out(net, num_classes, in_chans, size)
    except PROBLEMS as error:
        raise _refusal(error, cfg, make, num_classes, in_chans, size) from error
    if cfg.branch_gain < 1:
        damp_branches(net, cfg)
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


def _try_out(net: nn.Module, num_classes: int, in_chans: int, size: tuple[int, int]) -> None:
    """Run two blank images through `net`; a ValueError says that its output is not logits."""
    with torch.no_grad():
        logits = net.eval()(torch.zeros(2, in_chans, *size))
    if not isinstance(logits, torch.Tensor) or logits.shape != (2, num_classes):
        got = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ValueError(f"it gives {got} instead of (2, {num_classes}) logits")


def nearby(size: tuple[int, int]) -> list[tuple[int, int]]:
    """Return sizes to try instead of one that does not run: multiples of 32 next to it, the usual 224.

    32 is what most networks reduce the resolution by.
    """
    low, high = ([32 * max(1, f(side / 32)) for side in size] for f in (math.floor, math.ceil))
    sizes = [tuple(low), tuple(high), (high[0] + 32, high[1] + 32), (224, 224)]
    return [s for s in dict.fromkeys(sizes) if s != size]  # type: ignore[misc]


def _refusal(
    error: Exception,
    cfg: ModelConfig,
    make: Factory,
    num_classes: int,
    in_chans: int,
    size: tuple[int, int],
) -> UserError:
    """Find out by trial whether the size is at fault, and say what to change."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    runs = []
    for other in nearby(size):
        try:
            _try_out(make(num_classes, in_chans, other), num_classes, in_chans, other)
        except PROBLEMS:
            continue
        runs.append(f"{other[0]}x{other[1]}")
    asked = f"{in_chans}x{size[0]}x{size[1]}"
    if runs:
        return SizeError(
            f"model '{cfg.name}' ({cfg.architecture}) cannot take {asked} images: {reason}. Of the "
            f"sizes tried it takes {', '.join(runs)}. Change image_size in config/data/, or choose "
            "another model in config/sweeps/."
        )
    return UserError(
        f"model '{cfg.name}': {cfg.builder} cannot build '{cfg.architecture}' for {asked} images "
        f"(nor for other sizes) with options {dict(cfg.options)}: {reason}. Change "
        f"config/model/{cfg.name}.yaml."
    )
