"""Names of masks' values and of patients, as a user states them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from edgeward.core.patterns import compiled, misread
from edgeward.data.door import BadImage


def classes_of(labels: Mapping[int, str]) -> tuple[list[str], dict[int, int]]:
    """Return the classes in order of their lowest value, and value -> label index.

    Several values may stand for one class.
    """
    names = list(dict.fromkeys(labels[value] for value in sorted(labels)))
    return names, {value: names.index(name) + 1 for value, name in labels.items()}


def grouped(ids: Sequence[str], pattern: str | None) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the group of each id, "" where the name does not say, and a reason for those."""
    if pattern is None:
        return list(ids), []
    expression = compiled(pattern, "data.source.group_pattern", groups=1)
    groups, invalid = [], []
    for name in ids:
        foreign = misread(pattern, name)
        hit = None if foreign else expression.search(name)
        groups.append(hit.group(1) if hit and hit.group(1) else "")
        if foreign:
            hint = r"\w, \d, \s and \b know ASCII only, write e.g. [\pL\pN_] for \w"
            invalid.append(
                (name, f"its name is not ASCII, and group_pattern '{pattern}' is: {hint}")
            )
        elif not groups[-1]:
            invalid.append((name, f"its name does not match group_pattern '{pattern}'"))
    return groups, invalid


def matched(
    images: Collection[str], masks: Collection[str], pattern: str | None
) -> tuple[list[str], list[str], list[tuple[str, str]]]:
    """Return the names that have an image and a mask and whose group is known, their groups, and reasons for the others."""
    lost = [(name, "image without mask") for name in images if name not in masks]
    lost += [(name, "mask without image") for name in masks if name not in images]
    ids = sorted(set(images) & set(masks))
    groups, unknown = grouped(ids, pattern)
    known = [(name, group) for name, group in zip(ids, groups, strict=True) if group]
    return [name for name, _ in known], [group for _, group in known], lost + unknown


def label_indices(values: np.ndarray, index: Mapping[int, int], where: str) -> np.ndarray:
    """Turn the values of a mask into label indices, uint8.

    Parameters
    ----------
    index : value in the file -> label index; 0 stands for itself.
    where : what names the labels, for the reason.

    Raises
    ------
    BadImage
        If a value has no name.
    """
    names = {0: 0, **index}
    if values.dtype == np.uint8:
        found = np.flatnonzero(np.bincount(values.reshape(-1), minlength=256))
    else:
        found = np.unique(values)
    unknown = [f"{v:g}" for v in found.tolist() if v not in names]
    if unknown:
        known = ", ".join(str(v) for v in sorted(names))
        raise BadImage(f"its mask holds {', '.join(unknown[:5])}; {where} knows {known}")
    table = np.array([names[int(v)] for v in found], np.uint8)
    if values.dtype == np.uint8:
        every = np.zeros(256, np.uint8)
        every[found] = table
        return every[values]
    return table[np.searchsorted(found, values)]
