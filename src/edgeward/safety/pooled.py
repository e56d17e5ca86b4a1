"""The seeds of a sweep pooled on one data set: see `edgeward.statistics.seeds` for how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TypedDict

import numpy as np

from edgeward.core.errors import UserError
from edgeward.data.store import open_prepared
from edgeward.records.safety import Pooled, PooledDifference, PooledRow, RecipeOfModel
from edgeward.safety.config import StudyConfig
from edgeward.safety.stage import fingerprint, load
from edgeward.statistics.bootstrap import resample
from edgeward.statistics.seeds import Values, combine, defined
from edgeward.tasks.assessment import Arm, Key, Replicates

Recipe = tuple[str, str]
"""Model and recipe."""


class Comparisons(TypedDict):
    """What `pool` finds: parts of the record."""

    rows: list[PooledRow]
    differences: list[PooledDifference]
    between: list[PooledDifference]


def pooled_keys(arm: Arm) -> list[Key]:
    """Return the metrics that are pooled: those in [0, 1], and the one that is compared class by class."""
    return [
        *(Key(metric.name) for metric in arm.task.metrics if metric.share),
        *(Key(arm.task.class_difference, name) for name in arm.cases.classes),
    ]


def values_of(arms: Sequence[Arm], replicates: list[Replicates]) -> Values:
    """Return estimates and replicates of the seeds of one model and recipe."""
    return defined(
        {
            str(key): (
                np.array([arm.value(key) for arm in arms]),
                np.stack([part[key] for part in replicates]),
            )
            for key in pooled_keys(arms[0])
        }
    )


def pool(
    members: Mapping[Recipe, Sequence[Arm]], references: Mapping[str, str], cfg: StudyConfig
) -> Comparisons:
    """Pool the seeds of every model and recipe on the same test cases, and compare.

    Parameters
    ----------
    members : the seeds, at least 2 and in the same order, of each (model, recipe).
    references : model -> the recipe that its others are compared with. The first model's is what the
        other models' are compared with.
    cfg : resamples, seed and level.

    Returns
    -------
    ``differences`` are of recipes to their reference seed by seed, then of models; ``between`` are of each recipe of
    a model to every one listed before it, the reference left out.
    """
    arms = {(key, i): arm for key, seeds in members.items() for i, arm in enumerate(seeds)}
    cases, level = next(iter(arms.values())).cases, cfg.confidence_level
    labelled = {f"{n}": arm for n, arm in enumerate(arms.values())}
    drawn = resample(labelled, cases.labels, cases.groups, cfg.resamples, cfg.seed)
    replicates = dict(zip(arms, drawn.values(), strict=True))
    values = {
        key: values_of(seeds, [replicates[key, i] for i in range(len(seeds))])
        for key, seeds in members.items()
    }
    groups = cases.n_groups()

    def row(key: Recipe) -> PooledRow:
        metrics = {n: combine([(1.0, *pair)], groups, level) for n, pair in values[key].items()}
        return PooledRow(model=key[0], recipe=key[1], metrics=metrics)

    def difference(key: Recipe, against: Recipe, paired: bool) -> PooledDifference:
        metrics = {}
        for name, (mine, mine_r) in values[key].items():
            if name not in values[against]:
                continue
            other, other_r = values[against][name]
            parts = (
                [(1.0, mine - other, mine_r - other_r)]
                if paired
                else [(1.0, mine, mine_r), (-1.0, other, other_r)]
            )
            metrics[name] = combine(parts, groups, level, least=-1.0)
        model, recipe = against
        return PooledDifference(
            model=key[0],
            recipe=key[1],
            against=RecipeOfModel(model=model, recipe=recipe),
            paired=paired,
            metrics=metrics,
        )

    base = (next(iter(references)), next(iter(references.values())))
    to_reference = [
        difference((model, recipe), (model, references[model]), True)
        for model, recipe in values
        if recipe != references[model]
    ]
    models = [difference(key, base, False) for key in references.items() if key != base]
    between = [
        difference((model, recipe), (model, other), True)
        for model, reference in references.items()
        for other, recipe in combinations(
            [r for m, r in values if m == model and r != reference], 2
        )
    ]
    return {
        "rows": [row(key) for key in values],
        "differences": to_reference + models,
        "between": between,
    }


def run(
    cfg: StudyConfig,
    *,
    prepared: Path,
    folders: Mapping[Recipe, Mapping[int, Path]],
    references: Mapping[str, str],
    out: Path,
) -> dict[str, float]:
    """Pool the assessments of a sweep on one data set; write `out`.

    Parameters
    ----------
    cfg : with the section of the task of the data.
    prepared : folder of the data.
    folders : (model, recipe) -> seed -> assess folder.
    references : as in `pool`.

    Raises
    ------
    UserError
        If seeds differ between candidates, or their predictions are of other test sets.
    """
    data = open_prepared(prepared)
    seeds = [sorted(by_seed) for by_seed in folders.values()]
    if any(s != seeds[0] for s in seeds) or len(seeds[0]) < 2:
        raise UserError(f"{prepared}: pooling needs the same two or more seeds, found {seeds}.")
    test_sha256 = fingerprint(data)
    members = {
        key: [load(by_seed[s], data, cfg, test_sha256) for s in seeds[0]]
        for key, by_seed in folders.items()
    }
    first = next(iter(members.values()))[0]
    found = pool(members, references, cfg)
    Pooled(
        format=Pooled.FORMAT,
        data=data.card.name,
        seeds=seeds[0],
        confidence_level=cfg.confidence_level,
        n={"test": len(first.cases), "groups": first.cases.n_groups()},
        exemplars=type(first).exemplars(members, references, data, cfg.seed),
        **found,
    ).write(out)
    return {"seeds": float(len(seeds[0])), "candidates": float(len(folders))}
