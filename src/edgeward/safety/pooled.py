"""The seeds of a sweep pooled on one data set.

Seeds that share the test cases: `edgeward.statistics.seeds`. Seeds that are the folds of a cross-validation: `edgeward.safety.folds`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np

from edgeward.core.errors import UserError
from edgeward.data.store import open_prepared
from edgeward.records.base import Interval
from edgeward.records.safety import (
    Pooled,
    PooledDifference,
    PooledRow,
    RecipeOfModel,
    RecipeVerdict,
)
from edgeward.safety.comparison import assess
from edgeward.safety.config import StudyConfig
from edgeward.safety.folds import Folds
from edgeward.safety.stage import fingerprint, load
from edgeward.statistics.bootstrap import resample
from edgeward.statistics.seeds import Values, combine, defined
from edgeward.tasks.assessment import Arm, Key, Replicates, difference, interval

Recipe = tuple[str, str]
"""Model and recipe."""
Pair = tuple[Recipe, Recipe]
"""What is compared, and what with."""


class Comparisons(TypedDict):
    """What `pool` finds: parts of the record."""

    rows: list[PooledRow]
    differences: list[PooledDifference]
    between: list[PooledDifference]
    verdicts: NotRequired[list[RecipeVerdict]]


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

    def change(key: Recipe, against: Recipe, paired: bool) -> PooledDifference:
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
        return _difference(key, against, paired, metrics)

    to_reference, models, between = pairs(list(values), references)
    return {
        "rows": [row(key) for key in values],
        "differences": [
            *(change(*pair, True) for pair in to_reference),
            *(change(*pair, False) for pair in models),
        ],
        "between": [change(*pair, True) for pair in between],
    }


def pairs(recipes: Sequence[Recipe], references: Mapping[str, str]) -> tuple[list[Pair], ...]:
    """Return what is compared with what: recipes with their reference, models with the first one, recipes of a model."""
    base = (next(iter(references)), next(iter(references.values())))
    others = {m: [r for of, r in recipes if of == m and r != own] for m, own in references.items()}
    return (
        [((m, r), (m, references[m])) for m, r in recipes if r != references[m]],
        [(key, base) for key in references.items() if key != base],
        [((m, r), (m, other)) for m, mine in others.items() for other, r in combinations(mine, 2)],
    )


def _difference(
    key: Recipe, against: Recipe, paired: bool, metrics: dict[str, Interval]
) -> PooledDifference:
    return PooledDifference(
        model=key[0],
        recipe=key[1],
        against=RecipeOfModel(model=against[0], recipe=against[1]),
        paired=paired,
        metrics=metrics,
    )


def pool_folds(
    members: Mapping[Recipe, Sequence[Arm]], references: Mapping[str, str], cfg: StudyConfig
) -> Comparisons:
    """Judge every recipe by all cases, each decided by the model of the fold that tests it; otherwise as `pool`."""
    arms = {key: Folds(parts) for key, parts in members.items()}
    first = next(iter(arms.values()))
    labelled = {f"{n}": arm for n, arm in enumerate(arms.values())}
    drawn = resample(labelled, first.strata, first.cases.groups, cfg.resamples, cfg.seed)
    replicates = dict(zip(arms, drawn.values(), strict=True))
    keys, level = pooled_keys(first), cfg.confidence_level

    def row(key: Recipe) -> PooledRow:
        metrics = {str(k): interval(arms[key], k, replicates[key], level) for k in keys}
        return PooledRow(model=key[0], recipe=key[1], metrics=metrics)

    def change(key: Recipe, against: Recipe) -> PooledDifference:
        both = replicates[against], replicates[key]
        metrics = {str(k): difference(arms[against], arms[key], k, both, level) for k in keys}
        return _difference(key, against, True, metrics)

    to_reference, models, between = pairs(list(arms), references)
    return {
        "rows": [row(key) for key in arms],
        "differences": [change(*pair) for pair in [*to_reference, *models]],
        "between": [change(*pair) for pair in between],
        "verdicts": [
            RecipeVerdict(
                model=model,
                recipe=recipe,
                verdict=assess(arms[model, recipe], arms[against], cfg)[1],
            )
            for (model, recipe), against in to_reference
        ],
    }


def run(
    cfg: StudyConfig,
    *,
    prepared: Path,
    folders: Mapping[Recipe, Mapping[int, Path]],
    references: Mapping[str, str],
    out: Path,
    folds: Sequence[Path] = (),
) -> dict[str, float]:
    """Pool the assessments of a sweep on one data set; write `out`.

    Parameters
    ----------
    cfg : with the section of the task of the data.
    prepared : folder of the data.
    folders : (model, recipe) -> seed -> assess folder.
    references : as in `pool`.
    folds : if the data are cross-validated, the folder of the data of each seed.

    Raises
    ------
    UserError
        If seeds differ between candidates, or their predictions are of other test sets.
    """
    data = open_prepared(prepared)
    seeds = [sorted(by_seed) for by_seed in folders.values()]
    if any(s != seeds[0] for s in seeds) or len(seeds[0]) < 2:
        raise UserError(f"{prepared}: pooling needs the same two or more seeds, found {seeds}.")
    turns = [open_prepared(fold) for fold in folds] or [data] * len(seeds[0])
    tested = [fingerprint(turn) for turn in turns] if folds else [fingerprint(data)] * len(turns)
    by_turn = list(zip(seeds[0], turns, tested, strict=True))
    members = {
        key: [load(by_seed[s], turn, cfg, sha256) for s, turn, sha256 in by_turn]
        for key, by_seed in folders.items()
    }
    first = next(iter(members.values()))
    cases = Folds(first).cases if folds else first[0].cases
    found = (pool_folds if folds else pool)(members, references, cfg)
    Pooled(
        format=Pooled.FORMAT,
        data=data.card.name,
        seeds=seeds[0],
        confidence_level=cfg.confidence_level,
        n={"test": len(cases), "groups": cases.n_groups()},
        exemplars=[] if folds else type(first[0]).exemplars(members, references, data, cfg.seed),
        **found,
    ).write(out)
    return {"seeds": float(len(seeds[0])), "candidates": float(len(folders))}
