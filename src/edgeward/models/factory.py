"""From a model config to a network, checked to take the given image size."""

from __future__ import annotations

import copy
import importlib
import math
import pkgutil
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import nn

from edgeward.core.errors import UserError, unknown
from edgeward.models import zoo
from edgeward.models.config import ModelConfig
from edgeward.models.strided import replace_strided_pointwise
from edgeward.models.weights import Weights, start, timm_start

READS = ("zoo/*.py",)  # loaded by name: see edgeward.pipeline.closure
Size = tuple[int, ...]
Factory = Callable[[int, int, Size], nn.Module]

# What torch and the networks' own checks raise when layers do not fit together.
PROBLEMS = (TypeError, ValueError, AssertionError, RuntimeError)


class SizeError(UserError):
    """The network is fine, but not at this image size."""


def build(
    cfg: ModelConfig,
    *,
    num_classes: int,
    in_chans: int,
    image_size: Sequence[int],
    weights: Weights | None = None,
    classes: Sequence[str] = (),
) -> nn.Module:
    """Build the network of `cfg`, in train mode, with random weights or those that it shall start from.

    Parameters
    ----------
    cfg : the ``model`` config group.
    num_classes : number of logits, per image or per pixel: for segmentation, background included.
    in_chans : channels of the input, 1 or 3 as a rule.
    image_size : (height, width) in pixels, or (depth, height, width) in voxels of volumes, or of their
        patches. Networks whose parameters depend on the input size (position tables, attention
        biases, scan orders) are built for it, and for its number of dimensions.
    weights : of `edgeward.models.weights.find`; `classes` are the names that the logits then stand for.

    Returns
    -------
    A module from float32 (b, in_chans, *image_size), normalised, to logits: (b, num_classes) for
    classification, (b, num_classes, *image_size) for segmentation.

    Raises
    ------
    UserError
        If the architecture is unknown, an option does not exist, or the weights are those of another network.
    SizeError
        If the network cannot take images of this size, but takes others.
    """
    size = tuple(int(side) for side in image_size)
    if len(size) not in _axes(cfg):
        raise UserError(
            f"model '{cfg.name}' (builder: {cfg.builder}, config/model/{cfg.name}.yaml) takes no "
            f"input of {len(size)} dimensions ({'x'.join(map(str, size))}); name another model in config/sweeps/."
        )
    if cfg.builder == "onnx":
        raise UserError(
            f"model '{cfg.name}' is a finished file (builder: onnx, config/model/{cfg.name}.yaml): it is judged as it is, and neither trained, "
            "nor distilled from, nor built at other sizes; name another model in config/sweeps/."
        )
    make = _timm_factory(cfg) if cfg.builder == "timm" else _own_factory(cfg)
    begun = None if weights is None else _begin(cfg, weights, make, in_chans, size, classes)
    try:
        net = make(num_classes, in_chans, size) if begun is None else begun
        _try_out(cfg, net, num_classes, in_chans, size)
    except PROBLEMS as error:
        raise _refusal(error, cfg, make, num_classes, in_chans, size) from error
    if cfg.branch_gain < 1 and weights is None:
        damp_branches(net, cfg)
    replace_strided_pointwise(net)
    return net.train()


def _begin(
    cfg: ModelConfig,
    weights: Weights,
    make: Factory,
    in_chans: int,
    size: Size,
    classes: Sequence[str],
) -> nn.Module:
    """Build a network that starts from weights."""

    def strictly(found: Weights) -> nn.Module:
        return _timm_factory(cfg, found)(len(classes), in_chans, size)

    return start(weights, cfg, lambda n: make(n, in_chans, size), strictly, classes)


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


def _timm_factory(cfg: ModelConfig, weights: Weights | None = None) -> Factory:
    """Return what makes a network of timm; with weights it has their number of classes, and all of them fit."""
    import timm

    known = timm.list_models()
    if cfg.architecture not in known:
        raise unknown("timm model", cfg.architecture, known, f"config/model/{cfg.name}.yaml")
    pretrained = timm.get_pretrained_cfg(cfg.architecture)
    fixed_size = pretrained is not None and pretrained.fixed_input_size

    def make(num_classes: int, in_chans: int, size: Size) -> nn.Module:
        extra: dict[str, Any] = {"img_size": size} if fixed_size else {}
        name = cfg.architecture
        if weights is not None:
            name, num_classes, overlay = timm_start(cfg, weights)
            extra |= {"pretrained_cfg_overlay": overlay}
        return timm.create_model(
            name,
            pretrained=weights is not None,
            num_classes=num_classes,
            in_chans=in_chans,
            drop_rate=cfg.drop_rate,
            **extra,
            **cfg.options,
        )

    return make


def _own(cfg: ModelConfig) -> ModuleType:
    """Return the file of the zoo that holds the network."""
    known = [module.name for module in pkgutil.iter_modules(zoo.__path__)]
    if cfg.architecture not in known:
        raise unknown("model file", cfg.architecture, known, f"config/model/{cfg.name}.yaml")
    return importlib.import_module(f"{zoo.__name__}.{cfg.architecture}")


def _axes(cfg: ModelConfig) -> tuple[int, ...]:
    """Return of how many dimensions its input may be: all of segmentation take both, others say so (`AXES` in their file)."""
    if cfg.dense:
        return (2, 3)
    return getattr(_own(cfg), "AXES", (2,)) if cfg.builder == "edgeward" else (2,)


def _own_factory(cfg: ModelConfig) -> Factory:
    factory = _own(cfg).build

    def make(num_classes: int, in_chans: int, size: Size) -> nn.Module:
        return factory(
            num_classes=num_classes,
            in_chans=in_chans,
            image_size=size,
            drop_rate=cfg.drop_rate,
            **cfg.options,
        )

    return make


def _try_out(cfg: ModelConfig, net: nn.Module, num_classes: int, in_chans: int, size: Size) -> None:
    """Run two blank images through `net`; a ValueError says that its output is not logits.

    Segmentation networks are tried by shapes alone, since a volume may take seconds.
    """
    dense = cfg.dense
    image = torch.zeros(2, in_chans, *size, device="meta" if dense else None)
    shapes = copy.deepcopy(net).to("meta") if dense else net
    with torch.no_grad():
        logits = shapes.eval()(image)
    expected = (2, num_classes, *size) if dense else (2, num_classes)
    if not isinstance(logits, torch.Tensor) or logits.shape != expected:
        got = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ValueError(f"it gives {got} instead of logits {expected}")


def nearby(size: Size) -> list[Size]:
    """Return sizes to try instead of one that does not run: multiples of 32 next to it, the usual 224.

    32 is what most networks reduce the resolution by. For volumes also multiples of 8.
    """

    def multiples(unit: int) -> list[Size]:
        return [
            tuple(unit * max(1, f(side / unit)) for side in size) for f in (math.floor, math.ceil)
        ]

    low, high = multiples(32)
    if len(size) == 3:
        sizes = [*multiples(8), low, high]
    else:
        sizes = [low, high, tuple(side + 32 for side in high), (224, 224)]
    return [s for s in dict.fromkeys(sizes) if s != size]


def _refusal(
    error: Exception,
    cfg: ModelConfig,
    make: Factory,
    num_classes: int,
    in_chans: int,
    size: Size,
) -> UserError:
    """Find out by trial whether the size is at fault, and say what to change."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    runs = []
    for other in nearby(size):
        try:
            _try_out(cfg, make(num_classes, in_chans, other), num_classes, in_chans, other)
        except PROBLEMS:
            continue
        runs.append("x".join(map(str, other)))
    asked = "x".join(map(str, (in_chans, *size)))
    if runs:
        key = "image_size in config/data/"
        if len(size) == 3:
            key = "the patch size in config/train/" if cfg.dense else "volume.shape in config/data/"
        return SizeError(
            f"model '{cfg.name}' ({cfg.architecture}) cannot take {asked} images: {reason}. Of the "
            f"sizes tried it takes {', '.join(runs)}. Change {key}, or choose another model in "
            "config/sweeps/."
        )
    return UserError(
        f"model '{cfg.name}': {cfg.builder} cannot build '{cfg.architecture}' for {asked} images "
        f"(nor for other sizes) with options {dict(cfg.options)}: {reason}. Change "
        f"config/model/{cfg.name}.yaml."
    )
