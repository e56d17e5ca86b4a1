"""What the page shows of classes: images on which compression changes the decision, with truth, before and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeward.core.errors import UserError
from edgeward.core.pictures import data_uri
from edgeward.data.montage import plane
from edgeward.data.store import Prepared, open_prepared
from edgeward.statistics.temperature import log_softmax
from edgeward.tasks.page import Section, Shown

READS = ("templates/*",)  # read as files: see edgeward.pipeline.closure
TEMPLATES = Path(__file__).parent / "templates"
MOST = 12  # pictures of each candidate


@dataclass(frozen=True)
class Picture:
    """A test image that is decided otherwise: names of classes, and the image as a data URI."""

    index: int
    truth: str
    before: str
    after: str
    uri: str


@dataclass(frozen=True)
class Changed:
    """What compression changes in one candidate, of one seed.

    Attributes
    ----------
    n, changed : test images, and those decided otherwise than by the reference.
    lost, gained : of these, right before and not after, and the other way round.
    """

    key: str
    model: str
    seed: int
    recipe: str
    against: str
    n: int
    changed: int
    lost: int
    gained: int
    pictures: list[Picture]


def sections(members: Sequence[Shown]) -> list[Section]:
    """Return the images that compression changes, if it changes any; of several seeds the first."""
    data = open_prepared(members[0].prepared)
    firsts: dict[tuple[str, str], Shown] = {}
    for one in sorted(members, key=lambda one: one.seed):
        firsts.setdefault((one.model, one.recipe), one)
    references = {(one.model, one.seed): one for one in members if one.reference}
    found = [
        _changed(one, references[one.model, one.seed], data)
        for one in firsts.values()
        if not one.reference and (one.model, one.seed) in references
    ]
    if not any(entry.changed for entry in found):
        return []
    context = {"found": found, "several_seeds": len({one.seed for one in members}) > 1}
    template = (TEMPLATES / "changed.html.j2").read_text()
    return [Section("changed", "Images decided differently", "Images", template, context)]


def figures(_: Sequence[Shown]) -> dict[str, str]:
    """Return no figure beside those that all tasks have."""
    return {}


def _tested(data: Prepared, seed: int) -> np.ndarray:
    """Return the indices of the test images of a seed: of folds, each seed tests its own."""
    fold = np.flatnonzero(data.splits == f"fold{seed}")
    return fold if len(fold) else data.indices("test")


def _changed(one: Shown, reference: Shown, data: Prepared) -> Changed:
    tested = _tested(data, one.seed)
    truth = data.labels[tested]
    before, after = (_logits(shown, len(tested)) for shown in (reference, one))
    was, now = before.argmax(1), after.argmax(1)
    lost, gained = (was == truth) & (now != truth), (was != truth) & (now == truth)
    mattering = [data.classes.index(name) for name in one.card.rare_classes]
    rows = np.arange(len(truth))
    fall = (log_softmax(before) - log_softmax(after))[rows, truth]
    # Losses before gains, rare classes before others, and of these what moved most.
    order = np.lexsort((-np.abs(fall), ~np.isin(truth, mattering), ~lost))
    shown = [int(i) for i in order if was[i] != now[i]][:MOST]
    return Changed(
        key=one.key,
        model=one.model,
        seed=one.seed,
        recipe=one.recipe,
        against=reference.recipe,
        n=len(truth),
        changed=int((was != now).sum()),
        lost=int(lost.sum()),
        gained=int(gained.sum()),
        pictures=[
            Picture(
                int(tested[i]),
                data.classes[truth[i]],
                data.classes[was[i]],
                data.classes[now[i]],
                data_uri(plane(data, int(tested[i]))[0]),
            )
            for i in shown
        ],
    )


def _logits(one: Shown, n: int) -> np.ndarray:
    path = one.cases / "logits.npy"
    if not path.is_file():
        raise UserError(f"The report needs {path} (logits), which is not there.")
    logits: np.ndarray = np.load(path, allow_pickle=False)
    if len(logits) != n:
        raise UserError(f"{path} holds {len(logits)} images, the test split {n}. Run assess again.")
    return logits.astype(np.float64)
