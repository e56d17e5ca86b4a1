"""Augmentation of a whole batch at once, on tensors: one resampling and one multiply-add."""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from edgeward.training.config import AugmentConfig


def augment(images: torch.Tensor, cfg: AugmentConfig, generator: torch.Generator) -> torch.Tensor:
    """Return changed copies of `images`, every image with random numbers of its own.

    Flips, quarter turns, rotation, zoom and shift are composed into one affine map and one bilinear
    resampling with reflected borders. The random numbers come from the CPU generator whatever
    the device, so a seed means the same everywhere.

    Parameters
    ----------
    images : float32, shape (b, c, h, w), values 0-255.

    Returns
    -------
    float32, shape (b, c, h, w), values 0-255.
    """
    geometric = cfg.flips or cfg.rotate90 or cfg.degrees or cfg.scale or cfg.translate
    if geometric:
        theta = _affine(len(images), images.shape[-2:], cfg, generator).to(images.device)
        grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
        images = functional.grid_sample(
            images, grid, mode="bilinear", padding_mode="reflection", align_corners=False
        )
    if cfg.brightness or cfg.contrast or cfg.colour:
        images = _tone(images, cfg, generator)
    return images


def _uniform(shape: tuple[int, ...], reach: float, generator: torch.Generator) -> torch.Tensor:
    return (torch.rand(shape, generator=generator) * 2 - 1) * reach


def _affine(
    n: int, size: torch.Size, cfg: AugmentConfig, generator: torch.Generator
) -> torch.Tensor:
    """Return maps from output to input positions, float32 (n, 2, 3), in grid_sample's units."""
    h, w = size
    angle = torch.deg2rad(_uniform((n,), cfg.degrees, generator))
    if cfg.rotate90:
        quarters = torch.randint(4, (n,), generator=generator)
        if h != w:
            quarters = quarters // 2 * 2
        angle = angle + quarters * (math.pi / 2)
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


def _tone(images: torch.Tensor, cfg: AugmentConfig, generator: torch.Generator) -> torch.Tensor:
    """Scale brightness, colour and contrast (about each image's mean); clamp to 0-255."""
    n, c = images.shape[:2]
    gain = 1 + _uniform((n, 1, 1, 1), cfg.brightness, generator)
    gain = gain * (1 + _uniform((n, c, 1, 1), cfg.colour, generator))
    contrast = 1 + _uniform((n, 1, 1, 1), cfg.contrast, generator)
    gain, contrast = gain.to(images.device), contrast.to(images.device)
    centre = images.mean(dim=(1, 2, 3), keepdim=True)
    return ((images - centre) * contrast + centre).mul_(gain).clamp_(0, 255)
