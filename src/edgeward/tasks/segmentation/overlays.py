"""Worst, median and best case of a model: truth, reference and compressed label maps over the image."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from edgeward.core.errors import UserError
from edgeward.core.pictures import COLOURS, as_seen, data_uri, outline, telling_slice
from edgeward.core.text import fixed
from edgeward.data.store import Prepared, open_prepared
from edgeward.tasks.page import Shown

SIDE = 220  # pixels of a picture's longer side
FILL = 0.3  # share of a class's colour over the image
CHANGED = (255, 0, 200)
RANKS = ("worst", "median", "best")


@dataclass(frozen=True)
class Panel:
    """One picture: its title, what stands below it, the WebP image as a data URI, its description."""

    title: str
    caption: str
    uri: str
    alt: str


@dataclass(frozen=True)
class Case:
    """One case of a model, as pictures side by side."""

    ranks: str
    index: int
    name: str
    where: str
    panels: list[Panel]


@dataclass(frozen=True)
class Gallery:
    """The cases of one model, trained with one seed."""

    model: str
    seed: int
    by: str
    cases: list[Case]


def dice_of_cases(path: Path) -> dict[int, float]:
    """Return the Dice of every case of ``cases.csv``, the mean over the classes that its mask has."""
    values: dict[int, list[float]] = {}
    try:
        with Path(path).open(newline="") as handle:
            for row in csv.DictReader(handle):
                if row["dice"]:
                    values.setdefault(int(row["index"]), []).append(float(row["dice"]))
    except FileNotFoundError:
        raise UserError(f"The report needs {path} (cases), which is not there.") from None
    except (KeyError, ValueError) as error:
        raise UserError(f"{path} (cases) is broken: {error}. Run assess again.") from None
    return {index: sum(found) / len(found) for index, found in values.items()}


def chosen(dice: dict[int, float]) -> dict[int, str]:
    """Return the worst, median and best case (fewer if there are fewer) with the names of their ranks."""
    order = sorted(dice, key=lambda index: (dice[index], index))
    found: dict[int, str] = {}
    for rank, place in zip(RANKS, (0, (len(order) - 1) // 2, len(order) - 1), strict=True):
        if order:
            index = order[place]
            found[index] = f"{found[index]}, {rank}" if index in found else rank
    return found


def label_maps(path: Path, indices: Sequence[int]) -> dict[int, np.ndarray]:
    """Return some label maps, uint8 (*spatial), of ``predictions.npz``.

    Raises
    ------
    UserError
        If the file is missing, or lacks one of the cases.
    """
    if not Path(path).is_file():
        raise UserError(f"The report needs {path} (predictions), which is not there.")
    with np.load(path, allow_pickle=False) as content:
        index, shape, labels = content["index"], content["shape"], content["labels"]
    ends = np.cumsum(shape.prod(axis=1))
    place = {int(i): k for k, i in enumerate(index)}
    if missing := [i for i in indices if i not in place]:
        raise UserError(f"{path} (predictions) lacks cases {missing}. Run assess again.")
    return {
        i: labels[ends[k] - shape[k].prod() : ends[k]].reshape(shape[k])
        for i in indices
        for k in (place[i],)
    }


def galleries(members: Sequence[Shown]) -> list[Gallery]:
    """Return a gallery for every model and seed of a data set, of the cases that its reference ranks."""
    data = open_prepared(members[0].prepared)
    names = _names(data.root)
    families: dict[tuple[str, int], list[Shown]] = {}
    for one in members:
        families.setdefault((one.model, one.seed), []).append(one)
    return [_gallery(mine, data, names) for mine in families.values()]


def _names(root: Path) -> list[str]:
    with (root / "split.csv").open(newline="") as handle:
        return [row["id"] for row in csv.DictReader(handle)]


def _gallery(members: list[Shown], data: Prepared, names: list[str]) -> Gallery:
    dice = {c.recipe: dice_of_cases(c.cases / "cases.csv") for c in members}
    first = members[0]
    ranks = chosen(dice[first.recipe])
    maps = {c.recipe: label_maps(c.cases / "predictions.npz", list(ranks)) for c in members}
    cases = []
    for index, rank in ranks.items():
        picture, truth, said, where = _plane(data, index, [maps[c.recipe][index] for c in members])
        panels = [_panel("image", "", picture), _panel("truth", "", _draw(picture, truth))]
        for c, mine in zip(members, said, strict=True):
            changed = None if c is first else mine != said[0]
            value = fixed(dice[c.recipe].get(index))
            note = f"Dice {value}"
            if c is not first:
                share = np.mean(maps[c.recipe][index] != maps[first.recipe][index])
                note += f", {100 * share:.2g} % changed"
            panels.append(_panel(c.recipe, note, _draw(picture, mine, truth, changed)))
        cases.append(Case(rank, index, names[index], where, panels))
    return Gallery(first.model, first.seed, first.recipe, cases)


def _plane(
    data: Prepared, index: int, maps: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray], str]:
    """Return a picture, uint8 (h, w, 3), its true and its predicted labels (h, w), and where it lies.

    Of a volume it is the axial slice with the largest section of the class with fewest voxels. All
    are scaled to `SIDE` pixels, true to the distances in the patient.
    """
    image, mask = data.view(index)
    for labels in maps:
        if labels.shape != mask.shape:
            raise UserError(
                f"{data.root}: case {index} is {mask.shape}, its predicted labels {labels.shape}. "
                "Run assess again."
            )
    spacing, where = data.spacing(index)[-2:], ""
    if mask.ndim == 3:
        at = telling_slice(mask, data.n_labels)
        where = f"axial slice {at + 1} of {len(mask)}"
        image, mask = as_seen(image[:, at]), as_seen(mask[at])
        maps = [as_seen(labels[at]) for labels in maps]
    h, w = (side * step for side, step in zip(mask.shape, spacing, strict=True))
    size = max(1, round(SIDE * w / max(h, w))), max(1, round(SIDE * h / max(h, w)))
    colours = np.moveaxis(np.asarray(image, np.float32), 0, -1)
    colours = colours if colours.shape[-1] == 3 else np.repeat(colours[..., :1], 3, axis=-1)
    picture = Image.fromarray(np.rint(colours).clip(0, 255).astype(np.uint8))
    return (
        np.asarray(picture.resize(size, Image.Resampling.BICUBIC)),
        _scaled(mask, size),
        [_scaled(labels, size) for labels in maps],
        where,
    )


def _scaled(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    picture = Image.fromarray(np.ascontiguousarray(labels, dtype=np.uint8))
    return np.asarray(picture.resize(size, Image.Resampling.NEAREST))


def _draw(
    picture: np.ndarray,
    labels: np.ndarray,
    truth: np.ndarray | None = None,
    changed: np.ndarray | None = None,
) -> np.ndarray:
    """Return the picture with labels filled and outlined, the truth dotted white, changes in one colour."""
    drawn = picture.astype(np.float32)
    inner = np.where(outline(labels) > 0, 0, labels)
    rim = np.maximum(outline(labels), outline(inner))
    for label in np.unique(labels[labels > 0]):
        colour = np.array(COLOURS[(int(label) - 1) % len(COLOURS)], np.float32)
        where = labels == label
        drawn[where] = (1 - FILL) * drawn[where] + FILL * colour
        drawn[rim == label] = colour
    if changed is not None:
        drawn[changed] = CHANGED
    if truth is not None:
        row, column = np.indices(truth.shape)
        dots = (row + column) % 6 < 3
        drawn[(outline(truth) > 0) & dots] = 255
    return np.rint(drawn).astype(np.uint8)


def _panel(title: str, caption: str, picture: np.ndarray) -> Panel:
    return Panel(
        title, caption, data_uri(picture), ", ".join(part for part in (title, caption) if part)
    )
