"""Seeded drawings of dermoscopy: seven classes of skin lesion after the ABCD rule.

A lesion is a set of traits - asymmetry, border, colours, diameter, and the structures that
dermoscopists name (network, veil, lacunae, vessels, milia, dots, scar, scale) - drawn around
the centre of its class. A view adds what the camera adds: position, zoom, light, hair, vignette,
blur, noise. ABCD rule: Nachbar et al., J Am Acad Dermatol 30:551 (1994); structures by class:
Kittler et al., J Am Acad Dermatol 74:1093 (2016).

The same seed gives the same bytes on every machine: random numbers are integers or uniforms
(no tail of a normal), and pixels come from + - * / sqrt and comparisons only, which IEEE 754
rounds exactly; no exp, sin, power, BLAS or floating sum whose result depends on the hardware.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

F32 = np.float32
_LATTICE = 32  # cells of the noise lattice per side; a power of two
_N_VIEW = 20

# Centre of each trait by class. Columns in the order of TRAITS.
TRAITS = (
    ("radius", 0.10), ("asymmetry", 0.07), ("irregular", 0.05), ("edge", 0.06),
    ("melanin", 0.24), ("blood", 0.11), ("variegation", 0.13), ("ring", 0.16),
    ("network", 0.14), ("veil", 0.12), ("lacunae", 0.12), ("vessels", 0.13),
    ("milia", 0.13), ("dots", 0.13), ("scar", 0.12), ("scale", 0.12),
)  # fmt: skip
CENTRES = {
    # radius asym irreg edge  melan blood varieg ring  netw  veil  lacun vessel milia dots  scar  scale
    "akiec": (0.50, 0.20, 0.13, 0.30, 0.28, 0.50, 0.25, 0.00, 0.05, 0.02, 0.02, 0.18, 0.18, 0.06, 0.05, 0.50),
    "bcc": (0.46, 0.20, 0.11, 0.22, 0.24, 0.34, 0.28, 0.05, 0.03, 0.34, 0.06, 0.50, 0.08, 0.12, 0.12, 0.08),
    "bkl": (0.50, 0.16, 0.13, 0.08, 0.66, 0.12, 0.28, 0.00, 0.12, 0.08, 0.00, 0.03, 0.45, 0.28, 0.03, 0.20),
    "df": (0.40, 0.09, 0.05, 0.28, 0.52, 0.22, 0.12, 0.45, 0.28, 0.02, 0.02, 0.05, 0.03, 0.05, 0.58, 0.04),
    "mel": (0.53, 0.26, 0.14, 0.14, 1.02, 0.22, 0.42, 0.05, 0.38, 0.26, 0.03, 0.08, 0.04, 0.32, 0.10, 0.03),
    "nv": (0.43, 0.11, 0.06, 0.20, 0.80, 0.14, 0.16, -0.20, 0.34, 0.03, 0.01, 0.02, 0.04, 0.16, 0.01, 0.01),
    "vasc": (0.38, 0.12, 0.07, 0.12, 0.10, 0.80, 0.25, 0.00, 0.02, 0.12, 0.70, 0.10, 0.03, 0.03, 0.03, 0.03),
}  # fmt: skip
CLASSES = tuple(CENTRES)
STRUCTURES = tuple(name for name, _ in TRAITS[8:])
PRESENT = 0.5  # of a structure that is there; one that is not has none of it


@dataclass(frozen=True)
class DrawnLesion:
    """Which lesion to draw: `number` counts within its split and class.

    `structures` are those that it has, whatever is typical of its class; None: what is typical.
    """

    split: int
    label: int
    number: int
    views: int
    structures: frozenset[str] | None = None


@dataclass(frozen=True)
class Style:
    """What holds for a whole set: see `PhantomSource` for the meaning of the numbers."""

    classes: tuple[str, ...]
    size: int
    seed: int
    overlap: float
    hair: float
    noise: float


def _bell(u: np.ndarray) -> np.ndarray:
    """Turn uniforms (..., 4) into numbers of mean 0 and variance 1 (Irwin-Hall, exact sums)."""
    return (u[..., 0] + u[..., 1] + u[..., 2] + u[..., 3] - 2.0) * 1.7320508075688772


def _smooth(x: np.ndarray) -> np.ndarray:
    """Map x to 0-1 by the cubic 3x^2 - 2x^3; x is clipped to 0-1 in place."""
    np.clip(x, 0, 1, out=x)
    return _ease(x)


def _ease(x: np.ndarray) -> np.ndarray:
    """Return 3x^2 - 2x^3 for x in 0-1."""
    y = x * F32(-2)
    y += F32(3)
    y *= x
    y *= x
    return y


def _bump(field: np.ndarray, above: float, width: float) -> np.ndarray:
    """Return 0-1: where a noise field exceeds `above`, with a soft rim."""
    return _smooth((field - F32(above)) * F32(1 / width))


def _ridge(field: np.ndarray, width: float) -> np.ndarray:
    """Return 0-1: thin curves along the zero line of a noise field."""
    return _smooth(F32(1) - np.abs(field) * F32(1 / width))


def _noise(lattice: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Sample smooth value noise.

    Parameters
    ----------
    lattice : float32 (b, 32 * 32), values -1 to 1, periodic.
    x, y : float32 (b, h, w), in lattice cells; any real value.

    Returns
    -------
    float32 (b, h, w), -1 to 1.
    """
    floor_x, floor_y = np.floor(x), np.floor(y)
    wx, wy = _ease(x - floor_x), _ease(y - floor_y)
    mask = _LATTICE - 1
    start = np.arange(len(lattice), dtype=np.intp)[:, None, None] * _LATTICE**2
    x0, y0 = floor_x.astype(np.intp), floor_y.astype(np.intp)
    x0 &= mask
    y0 &= mask
    x1, y1 = x0 + 1, y0 + 1
    x1 &= mask
    y1 &= mask
    for row in (y0, y1):
        row *= _LATTICE
        row += start
    flat = lattice.reshape(-1)
    rows = []
    for row in (y0, y1):
        left = flat.take(row + x0)
        right = flat.take(row + x1)
        right -= left
        right *= wx
        right += left
        rows.append(right)
    top, low = rows
    low -= top
    low *= wy
    low += top
    return low


def _unit(u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turn a uniform into the cosine and sine of a turn, by the rational half-angle form."""
    quarter = np.floor(u * 4)
    t = (u * 4 - quarter - 0.5) * 0.8284271247461903  # |t| <= tan(pi/8)
    c, s = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
    odd, back = quarter % 2 == 1, quarter >= 2
    c, s = np.where(odd, -s, c), np.where(odd, c, s)
    return np.where(back, -c, c), np.where(back, -s, s)


def _draw(lesions: Sequence[DrawnLesion], style: Style) -> tuple[np.ndarray, ...]:
    """Draw all random numbers of the images of some lesions, each lesion from its own seed."""
    size, names = style.size, list(style.classes)
    n = sum(lesion.views for lesion in lesions)
    traits = np.empty((n, len(TRAITS) + 5))
    lattice = np.empty((n, _LATTICE**2), F32)
    views = np.empty((n, _N_VIEW))
    grain = np.empty((n, 2, size, size, 3), np.uint8)
    spread = np.array([s for _, s in TRAITS]) * style.overlap
    row = 0
    for lesion in lesions:
        name = names[lesion.label]
        key = (style.seed, lesion.split, CLASSES.index(name), lesion.number)
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))
        bells = _bell(rng.random((len(TRAITS) + 5, 4)))
        texture = rng.random(_LATTICE**2, dtype=F32) * F32(2) - F32(1)
        own = slice(row, row + lesion.views)
        centre = np.array(CENTRES[name])
        if lesion.structures is not None:
            centre[8:] = [PRESENT * (s in lesion.structures) for s in STRUCTURES]
        traits[own, : len(TRAITS)] = centre + spread * bells[: len(TRAITS)]
        if lesion.structures is not None:
            absent = [s not in lesion.structures for s in STRUCTURES]
            traits[own, 8 : len(TRAITS)][:, absent] = 0
        traits[own, len(TRAITS) :] = bells[len(TRAITS) :]
        lattice[own] = texture
        for i in range(row, row + lesion.views):
            views[i] = rng.random(_N_VIEW)
            grain[i] = np.frombuffer(rng.bytes(grain[i].size), np.uint8).reshape(grain[i].shape)
        row += lesion.views
    return traits, lattice, views, grain


def render(lesions: Sequence[DrawnLesion], style: Style) -> tuple[np.ndarray, np.ndarray]:
    """Draw every view of some lesions.

    An image depends on its own lesion, view and the style only, not on what else is drawn.

    Returns
    -------
    images : uint8 (n, size, size, 3), RGB.
    masks : uint8 (n, size, size), 1 inside the lesion's border.
    """
    traits, lattice, view, grain = _draw(lesions, style)
    n, size = len(view), style.size

    def column(values: np.ndarray) -> np.ndarray:
        return values.astype(F32)[:, None, None]

    low = [0.16, 0.02, 0.01, 0.05, 0.03, 0.02, 0.02, -0.6] + [0.0] * 8
    high = [0.80, 0.60, 0.32, 0.45, 2.20, 1.30, 1.00, 0.8] + [1.0] * 8
    bounded = np.clip(traits[:, : len(TRAITS)], low, high)
    trait = {name: column(bounded[:, i]) for i, (name, _) in enumerate(TRAITS)}
    skin = traits[:, len(TRAITS) :]

    # Where each pixel lies in the lesion's own coordinates (its border is near 1).
    axis = ((np.arange(size, dtype=F32) + F32(0.5)) * F32(2 / size) - F32(1)).astype(F32)
    x, y = axis[None, None, :], axis[None, :, None]
    c, s = _unit(view[:, 0])
    zoom = 0.85 + 0.3 * view[:, 1]
    stretch = 1 + 0.12 * np.clip(skin[:, 4], -1.5, 1.5)
    scale = 1 / (bounded[:, 0] * zoom)
    mirror = np.where(view[:, 4] < 0.5, -1.0, 1.0)
    dx, dy = x - column(0.36 * view[:, 2] - 0.18), y - column(0.36 * view[:, 3] - 0.18)
    u = dx * column(c * scale * stretch) + dy * column(s * scale * stretch)
    v = dy * column(c * mirror * scale / stretch) - dx * column(s * mirror * scale / stretch)

    # Three sizes of texture, each turned by a Pythagorean angle to hide the lattice.
    broad = _noise(lattice, u * F32(1.3) + F32(2.3), v * F32(1.3) + F32(5.1))
    pu, pv = u * F32(0.6) - v * F32(0.8), u * F32(0.8) + v * F32(0.6)
    middle = _noise(lattice, pu * F32(2.9) + F32(11.7), pv * F32(2.9) + F32(17.4))
    qu, qv = u * F32(5 / 13) - v * F32(12 / 13), u * F32(12 / 13) + v * F32(5 / 13)
    fine = _noise(lattice, qu * F32(6.1) + F32(21.2), qv * F32(6.1) + F32(8.6))

    # A and B: the outline, bent by broad (asymmetry) and middle (irregularity) texture.
    r = np.sqrt(u * u + v * v)
    inside = F32(1) - r + trait["asymmetry"] * broad * F32(1.6) + trait["irregular"] * middle * 2
    masks = (inside > 0).astype(np.uint8)
    body = _smooth(inside / (trait["edge"] * F32(2)) + F32(0.5))

    # C: pigment and blood absorb; veil, scar, milia and scale scatter.
    pigment = F32(1) + trait["variegation"] * (broad + middle * F32(0.5)) * F32(1.8)
    pigment += trait["ring"] * (r - F32(0.55)) * F32(1.4)
    np.maximum(pigment, F32(0.08), out=pigment)
    pigment *= trait["melanin"]
    pigment += trait["network"] * (_ridge(fine, 0.30) - F32(0.3)) * F32(0.9)
    pigment += trait["dots"] * _bump(-fine - middle * F32(0.3), 0.34, 0.25) * F32(2.6)
    pigment *= body
    np.maximum(pigment, 0, out=pigment)
    blood = trait["blood"] * (F32(1) + trait["variegation"] * (middle - broad))
    clods = _bump(middle + broad * F32(0.3), -0.02, 0.22) * trait["lacunae"]
    blood += clods * F32(1.5)
    blood += trait["vessels"] * _ridge(middle * F32(0.9) + broad * F32(0.5), 0.12) * F32(1.5)
    blood *= body
    np.maximum(blood, 0, out=blood)
    blue = trait["veil"] * _bump(middle * F32(0.6) - broad, -0.1, 0.8) * body * F32(1.6)
    np.minimum(blue, F32(0.75), out=blue)
    white = trait["scar"] * _smooth(F32(1.35) - r * F32(1.9))
    white += trait["milia"] * _bump(fine + middle * F32(0.2), 0.38, 0.2)
    white += trait["scale"] * _bump(fine * F32(0.6) + middle * F32(0.6), 0.02, 0.5) * F32(0.8)
    white *= body
    np.minimum(white, F32(0.8), out=white)

    # What the camera adds.
    tilt = x * column(0.24 * view[:, 5] - 0.12) + y * column(0.24 * view[:, 6] - 0.12)
    corner = x * x + y * y
    shade = (F32(1) + tilt) * (F32(1) - column(0.22 * view[:, 7] * view[:, 7]) * corner)
    lens = column(np.where(view[:, 8] < 0.12, 1.0, 0.0))
    shade *= F32(1) - lens * _smooth((corner - column(1.05 + 0.4 * view[:, 9])) * F32(6))
    shade *= column(0.88 + 0.2 * view[:, 10])
    shade *= _hair(u.shape, x, y, view, style.hair)
    skin_texture = (middle * F32(0.5) + fine * F32(0.5)) * (F32(1) - body)
    shade *= F32(1) + skin_texture * F32(0.05)
    haze = column(0.75 * view[:, 11] * view[:, 11])

    images = np.empty((n, size, size, 3), np.uint8)
    tone = np.clip(skin[:, 0], -1.5, 2.0)
    rosy = np.clip(skin[:, 1], -1.5, 1.5)
    noise = F32(style.noise * 2.4494897 / 256)  # difference of two bytes: variance 256^2 / 6
    optics = (  # skin, melanin, blood, veil, white for R, G, B
        (0.88, 0.55, 0.12, 0.40, 0.95, 0.055, 0.012),
        (0.70, 1.05, 1.30, 0.43, 0.88, 0.070, -0.030),
        (0.62, 1.60, 1.05, 0.53, 0.84, 0.080, -0.014),
    )
    for k, (base, melanin, haem, veil, pale, darker, redder) in enumerate(optics):
        cast = 1 + 0.1 * (view[:, 12 + k] - 0.5)
        plane = column(base - darker * tone + redder * rosy) / (
            F32(1) + pigment * F32(melanin) + blood * F32(haem)
        )
        plane += (F32(veil) - plane) * blue
        plane += (F32(pale) - plane) * white
        plane *= shade
        plane += (_blur(plane) - plane) * haze
        plane *= column(cast * 255)
        plane += (grain[:, 0, :, :, k].astype(F32) - grain[:, 1, :, :, k].astype(F32)) * noise
        plane += F32(0.5)
        np.clip(plane, 0, 255, out=plane)
        images[..., k] = plane.astype(np.uint8)
    return images, masks


def _blur(plane: np.ndarray) -> np.ndarray:
    """Return the plane under a 1-2-1 kernel in both directions, edges repeated."""
    for axis in (1, 2):
        padded = np.concatenate(
            [plane.take([0], axis), plane, plane.take([plane.shape[axis] - 1], axis)], axis
        )
        before = padded[:, :-2] if axis == 1 else padded[:, :, :-2]
        after = padded[:, 2:] if axis == 1 else padded[:, :, 2:]
        plane = (before + after + plane * F32(2)) * F32(0.25)
    return plane


def _hair(
    shape: tuple[int, ...], x: np.ndarray, y: np.ndarray, view: np.ndarray, share: float
) -> np.ndarray:
    """Return the light that hair lets through, (n, h, w) 0-1: dark bent strands."""
    light = np.ones(shape, F32)
    strands = np.where(view[:, 15] < share, 1 + np.floor(view[:, 16] * 4), 0)
    for strand in range(4):
        rows = np.flatnonzero(strands > strand)
        if not len(rows):
            break
        # Golden-ratio steps spread the strands of one image from two of its numbers.
        turn = view[rows, 17] + 0.13 * strand
        place = view[rows, 18] + 0.6180339887498949 * strand
        c, s = _unit(turn - np.floor(turn))
        offset, bend = 1.6 * (place - np.floor(place)) - 0.8, 0.7 * (view[rows, 19] - 0.5)
        c, s, offset, bend = (a.astype(F32)[:, None, None] for a in (c, s, offset, bend))
        along, across = x * c + y * s, y * c - x * s
        gap = np.abs(across - offset - bend * along * along)
        thick = (0.03 + 0.02 * (offset * F32(7) - np.floor(offset * F32(7)))).astype(F32)
        light[rows] *= F32(1) - F32(0.72) * _smooth(F32(1) - gap / thick)
    return light
