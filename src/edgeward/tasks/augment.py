"""Augmentation of a whole batch at once, on tensors: one resampling and one multiply-add."""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from edgeward.tasks.config import AugmentConfig


def augment(images: torch.Tensor, cfg: AugmentConfig, generator: torch.Generator) -> torch.Tensor:
    """Return changed copies of `images`, every image with random numbers of its own.

    Flips, quarter turns, rotation, zoom and shift are composed into one affine map and one linear
    resampling with reflected borders. The random numbers come from the CPU generator whatever
    the device, so a seed means the same everywhere.

    Parameters
    ----------
    images : float32, shape (b, c, h, w) or (b, c, d, h, w), values 0-255.

    Returns
    -------
    float32, of the same shape, values 0-255.
    """
    grid = _grid(images, cfg, generator)
    if grid is not None:
        images = _resample(images, grid, "bilinear")
    return _tone(images, cfg, generator)


def augment_with_masks(
    images: torch.Tensor, masks: torch.Tensor, cfg: AugmentConfig, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Change images as `augment` does, and move their masks along, to the nearest label.

    Parameters
    ----------
    images : float32, shape (b, c, *spatial), values 0-255.
    masks : uint8, shape (b, *spatial), label indices.

    Returns
    -------
    Of the same shapes and types.
    """
    grid = _grid(images, cfg, generator)
    if grid is not None:
        images = _resample(images, grid, "bilinear")
        masks = _resample(masks[:, None].float(), grid, "nearest")[:, 0].to(masks.dtype)
    return _tone(images, cfg, generator), masks


def _resample(images: torch.Tensor, grid: torch.Tensor, mode: str) -> torch.Tensor:
    return functional.grid_sample(
        images, grid, mode=mode, padding_mode="reflection", align_corners=False
    )


def _grid(
    images: torch.Tensor, cfg: AugmentConfig, generator: torch.Generator
) -> torch.Tensor | None:
    """Return where each voxel comes from, in grid_sample's units; None if nothing moves."""
    if not (cfg.flips or cfg.rotate90 or cfg.degrees or cfg.scale or cfg.translate):
        return None
    affine = _affine if images.ndim == 4 else _affine_3d
    theta = affine(len(images), images.shape[2:], cfg, generator).to(images.device)
    return functional.affine_grid(theta, list(images.shape), align_corners=False)


def _uniform(shape: tuple[int, ...], reach: float, generator: torch.Generator) -> torch.Tensor:
    return (torch.rand(shape, generator=generator) * 2 - 1) * reach


def _quarters(n: int, h: int, w: int, generator: torch.Generator) -> torch.Tensor:
    quarters = torch.randint(4, (n,), generator=generator)
    return quarters if h == w else quarters // 2 * 2


def _affine(
    n: int, size: torch.Size, cfg: AugmentConfig, generator: torch.Generator
) -> torch.Tensor:
    """Return maps from output to input positions, float32 (n, 2, 3), in grid_sample's units."""
    h, w = size
    angle = torch.deg2rad(_uniform((n,), cfg.degrees, generator))
    if cfg.rotate90:
        angle = angle + _quarters(n, h, w, generator) * (math.pi / 2)
    zoom = 1 / (1 + _uniform((n,), cfg.scale, generator))
    flips = torch.ones(n, 2)
    if cfg.flips:
        flips = torch.randint(2, (n, 2), generator=generator) * 2.0 - 1
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    theta = torch.empty(n, 2, 3)
    # A rotation in pixels; grid_sample's x and y both run over [-1, 1], hence the aspect ratio.
    theta[:, 0, 0], theta[:, 0, 1] = cos * flips[:, 0], -sin * flips[:, 1] * (h / w)
    theta[:, 1, 0], theta[:, 1, 1] = sin * flips[:, 0] * (w / h), cos * flips[:, 1]
    theta[:, :, 2] = _uniform((n, 2), 2 * cfg.translate, generator)
    return theta


def _affine_3d(
    n: int, size: torch.Size, cfg: AugmentConfig, generator: torch.Generator
) -> torch.Tensor:
    """Return maps as `_affine` does, float32 (n, 3, 4): a turn about each axis, one after the other."""
    sides = torch.tensor(list(size)[::-1], dtype=torch.float32)  # grid_sample counts x, y, z
    angles = torch.deg2rad(_uniform((n, 3), cfg.degrees, generator))
    if cfg.rotate90:
        angles[:, 2] += _quarters(n, size[1], size[2], generator) * (math.pi / 2)
    turn = torch.eye(3).expand(n, 3, 3)
    for axis in range(3):
        a, b = [k for k in range(3) if k != axis]
        step = torch.eye(3).repeat(n, 1, 1)
        cos, sin = torch.cos(angles[:, axis]), torch.sin(angles[:, axis])
        step[:, a, a], step[:, a, b] = cos, -sin
        step[:, b, a], step[:, b, b] = sin, cos
        turn = step @ turn
    zoom = 1 / (1 + _uniform((n,), cfg.scale, generator))
    flips = torch.ones(n, 3)
    if cfg.flips:
        flips = torch.randint(2, (n, 3), generator=generator) * 2.0 - 1
    # A rotation in voxels, in units that run over [-1, 1] along every axis.
    linear = turn * (zoom[:, None, None] * flips[:, None, :] * sides / sides[:, None])
    return torch.cat([linear, _uniform((n, 3, 1), 2 * cfg.translate, generator)], dim=2)


def _tone(images: torch.Tensor, cfg: AugmentConfig, generator: torch.Generator) -> torch.Tensor:
    """Scale brightness, colour and contrast (about each image's mean); clamp to 0-255."""
    if not (cfg.brightness or cfg.contrast or cfg.colour):
        return images
    n, c = images.shape[:2]
    one = [1] * (images.ndim - 2)
    gain = 1 + _uniform((n, 1, *one), cfg.brightness, generator)
    gain = gain * (1 + _uniform((n, c, *one), cfg.colour, generator))
    contrast = 1 + _uniform((n, 1, *one), cfg.contrast, generator)
    gain, contrast = gain.to(images.device), contrast.to(images.device)
    centre = images.mean(dim=tuple(range(1, images.ndim)), keepdim=True)
    return ((images - centre) * contrast + centre).mul_(gain).clamp_(0, 255)
