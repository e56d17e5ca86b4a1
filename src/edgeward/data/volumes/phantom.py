"""Seeded CT-like volumes: a body, a spine, an organ, and in some of them small lesions in the organ.

Every structure is an ellipsoid whose volume is known in closed form, so that masks can be checked
against 4/3 pi abc. Hounsfield units are those of a portal-venous abdomen: air -1000, soft tissue 40,
organ 110, bone 400, and lesions below the organ by the contrast that the config sets.

The same seed gives the same bytes on every machine: uniforms and exactly rounded arithmetic
(+ - * / sqrt, comparisons) only, as in `edgeward.data.phantom`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeward.data.volume_config import Phantom3dSource

F32 = np.float32
AIR, TISSUE, ORGAN, BONE = -1000.0, 40.0, 110.0, 400.0
FOREGROUND = ["organ", "lesion"]


@dataclass(frozen=True)
class Ellipsoid:
    """Centre and half axes in mm, (d, h, w), from the centre of the volume."""

    centre: tuple[float, float, float]
    axes: tuple[float, float, float]


@dataclass(frozen=True)
class Anatomy:
    """What a volume shows."""

    body: Ellipsoid
    spine: Ellipsoid
    organ: Ellipsoid
    lesions: tuple[Ellipsoid, ...]


def anatomy(source: Phantom3dSource, rng: np.random.Generator, n_lesions: int) -> Anatomy:
    """Draw a volume's structures; lesions are spheres inside the organ that do not touch."""
    size = np.array(source.shape) * np.array(source.spacing)
    u = rng.random(16)
    body = size * (0.44 + 0.04 * u[0])
    body[0] = 8 * size[0]  # a trunk: it leaves the volume above and below
    spine = Ellipsoid((0.0, -0.27 * size[1], 0.0), (8 * size[0], 0.08 * size[1], 0.08 * size[2]))
    centre = size * np.array(
        [0.12 * (u[1] - 0.5), 0.04 + 0.08 * (u[2] - 0.5), 0.12 + 0.08 * (u[3] - 0.5)]
    )
    axes = size * np.array([0.24 + 0.1 * u[4], 0.17 + 0.06 * u[5], 0.18 + 0.06 * u[6]])
    lesions: list[Ellipsoid] = []
    low, high = source.lesion_radius
    for _ in range(200 * n_lesions):
        if len(lesions) == n_lesions:
            break
        v = rng.random(4)
        radius = min(low + (high - low) * float(v[0]), 0.5 * float(axes.min()))
        offset = (2 * v[1:] - 1) * axes
        room = axes - radius
        if ((offset / room) ** 2).sum() > 1:
            continue
        at = centre + offset
        if all(
            np.sqrt(((at - np.array(o.centre)) ** 2).sum())
            > radius + o.axes[0] + max(source.spacing)
            for o in lesions
        ):
            lesions.append(_ellipsoid(at, np.full(3, radius)))
    return Anatomy(_ellipsoid(np.zeros(3), body), spine, _ellipsoid(centre, axes), tuple(lesions))


def _ellipsoid(centre: np.ndarray, axes: np.ndarray) -> Ellipsoid:
    d, h, w = (float(x) for x in centre)
    a, b, c = (float(x) for x in axes)
    return Ellipsoid((d, h, w), (a, b, c))


def _radius(shape: Ellipsoid, source: Phantom3dSource) -> np.ndarray:
    """Return how far each voxel's centre lies in units of the half axes, float32 (d, h, w)."""
    square = np.zeros(source.shape, F32)
    for axis, (n, step) in enumerate(zip(source.shape, source.spacing, strict=True)):
        place = (np.arange(n) - (n - 1) / 2) * step
        gap = ((place - shape.centre[axis]) / shape.axes[axis]).astype(F32)
        square = square + (gap * gap).reshape([-1 if a == axis else 1 for a in range(3)])
    return np.sqrt(square)


def _paint(image: np.ndarray, r: np.ndarray, shape: Ellipsoid, value: float, voxel: float) -> None:
    """Lay a structure over the image; its rim is one voxel wide, as partial volume makes it."""
    cover = (F32(1) - r) * F32(min(shape.axes) / voxel) + F32(0.5)
    np.clip(cover, 0, 1, out=cover)
    image += (F32(value) - image) * cover


def draw(
    source: Phantom3dSource, seed: int, split: int, number: int, n_lesions: int
) -> tuple[np.ndarray, np.ndarray, Anatomy]:
    """Draw a volume.

    Returns
    -------
    image : float32 (d, h, w), Hounsfield units, axes to superior, anterior, right.
    mask : uint8 (d, h, w): 1 organ, 2 lesion; a voxel belongs to what holds its centre.
    anatomy : what is in it, in mm.
    """
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, split, number))))
    shown = anatomy(source, rng, n_lesions)
    voxel = min(source.spacing)
    image = np.full(source.shape, AIR, F32)
    mask = np.zeros(source.shape, np.uint8)
    _paint(image, _radius(shown.body, source), shown.body, TISSUE, voxel)
    _paint(image, _radius(shown.spine, source), shown.spine, BONE, voxel)
    r = _radius(shown.organ, source)
    mask[r <= 1] = 1
    _paint(image, r, shown.organ, ORGAN, voxel)
    for lesion in shown.lesions:
        r = _radius(lesion, source)
        mask[r <= 1] = 2
        _paint(image, r, lesion, ORGAN - source.contrast, voxel)
    grain = np.frombuffer(rng.bytes(4 * mask.size), np.uint8).reshape(4, *source.shape)
    spread = source.noise / (256 * np.sqrt(4 / 12))  # four bytes: variance 4 * 256^2 / 12
    image += (grain.sum(0, dtype=np.int32) - 510).astype(F32) * F32(spread)
    return image, mask, shown
