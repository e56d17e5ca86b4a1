"""Several seeds of one model together: what the training does, apart from what these cases do.

A network's metric varies for two reasons: its training (seed), and the cases that it is tested on.
Seeds share the test cases, so neither a bootstrap of the cases nor the spread over seeds has it
all. Here the mean over K seeds has the variance

    s^2 / K  +  var_cases,

s^2 the variance over seeds and var_cases the variance of the mean over clustered resamples of the
cases, the same for all seeds and models; the interval is Student's t with the degrees of freedom of
Satterthwaite (Biometrics Bulletin 2 (1946) 110-114). A difference of recipes is taken seed by seed,
since both come from the same training; a difference of models is not, since their seeds have
nothing in common.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtrit

from edgeward.core.errors import UserError
from edgeward.core.io import write_json
from edgeward.data.store import open_prepared
from edgeward.safety import bootstrap
from edgeward.safety.config import DenseConfig, SafetyConfig
from edgeward.safety.dense import SCALARS as OF_SEGMENTATION
from edgeward.safety.dense import DenseArm, resample
from edgeward.safety.dense_stage import cases_of, load_tables
from edgeward.safety.intervals import record
from edgeward.safety.stage import fingerprint, load_reference
from edgeward.safety.study import Assessed, Sample, scalar

SCALARS = ("auc_macro", "balanced_accuracy", "rare_recall", "ece")
DENSE_SCALARS = tuple(name for name in OF_SEGMENTATION if name not in ("hd95", "false_lesions"))
Key = tuple[str, str]
"""Model and recipe."""
Values = dict[str, tuple[np.ndarray, np.ndarray]]
"""Metric -> estimates (K,) and replicates (K, resamples) of the seeds."""


def satterthwaite(variances: Sequence[float], freedoms: Sequence[float]) -> float:
    """Return the degrees of freedom of a sum of variances, each with its own; inf if all are 0."""
    below = sum(v * v / f for v, f in zip(variances, freedoms, strict=True))
    return float(sum(variances) ** 2 / below) if below else float("inf")


def combine(
    arms: Sequence[tuple[float, np.ndarray, np.ndarray]],
    cases: int,
    level: float,
    least: float = 0.0,
) -> dict[str, Any]:
    """Return the interval record of a signed sum of means over seeds.

    Parameters
    ----------
    arms : (sign, estimates (K,), replicates (K, resamples)); resamples are the same for all.
    cases : number of independent groups of test cases.
    level : two-sided confidence level.
    least : smallest possible value; the largest is 1.

    Returns
    -------
    ``estimate, low, high, n`` (seeds of the first arm), ``sd_seeds`` (of the first arm),
    ``se_seeds, se_cases, freedom, method``.
    """
    estimate = sum(sign * float(values.mean()) for sign, values, _ in arms)
    case_variance = float(np.var(sum(sign * r.mean(axis=0) for sign, _, r in arms), ddof=1))
    seed_variances = [float(np.var(v, ddof=1)) / len(v) for _, v, _ in arms]
    variances = [*seed_variances, case_variance]
    freedom = satterthwaite(variances, [*(len(v) - 1 for _, v, _ in arms), max(cases - 1, 1)])
    error = float(np.sqrt(sum(variances)))
    reach = error * (float(stdtrit(freedom, 0.5 + level / 2)) if np.isfinite(freedom) else 0.0)
    return record(
        estimate,
        max(least, estimate - reach),
        min(1.0, estimate + reach),
        n=len(arms[0][1]),
        method="t over seeds and clustered resamples",
        sd_seeds=float(np.std(arms[0][1], ddof=1)),
        se_seeds=float(np.sqrt(sum(seed_variances))),
        se_cases=float(np.sqrt(case_variance)),
        freedom=freedom if np.isfinite(freedom) else None,
    )


def _values(
    models: list[Assessed], replicates: list[dict[str, np.ndarray]], classes: list[str]
) -> Values:
    found = {
        name: (
            np.array([scalar(name, model) for model in models]),
            np.stack([part[name] for part in replicates]),
        )
        for name in SCALARS
    }
    for k, name in enumerate(classes):
        found[f"recall_{name}"] = (
            np.array([float(model.arm.estimates["recall"][k]) for model in models]),
            np.stack([part["recall"][k] for part in replicates]),
        )
    return _defined(found)


def pool(
    members: Mapping[Key, list[Assessed]], references: Mapping[str, str], cfg: SafetyConfig
) -> dict[str, Any]:
    """Pool the seeds of every model and recipe on one test sample, and compare.

    Parameters
    ----------
    members : the seeds, at least 2 and in the same order, of each (model, recipe).
    references : see `differences_and_rows`.
    cfg : the safety group; resamples, seed and level.

    Returns
    -------
    As `differences_and_rows`; names of metrics are `SCALARS` and ``recall_<class>``.
    """
    first = next(iter(members.values()))[0]
    sample = first.sample
    arms = {
        (key, i): model.arm for key, models in members.items() for i, model in enumerate(models)
    }
    labelled = {f"{n}": arm for n, arm in enumerate(arms.values())}
    run = bootstrap.run(labelled, sample.labels, sample.groups, cfg.resamples, cfg.seed)
    replicates = dict(zip(arms, run.values(), strict=True))
    values = {
        key: _values(models, [replicates[key, i] for i in range(len(models))], sample.classes)
        for key, models in members.items()
    }
    return differences_and_rows(values, references, sample.n_groups(), cfg.confidence_level)


def pool_dense(
    members: Mapping[Key, list[DenseArm]], references: Mapping[str, str], cfg: DenseConfig
) -> dict[str, Any]:
    """Pool the seeds of segmentation models; arguments as for `pool`.

    Returns
    -------
    As `differences_and_rows`; names of metrics are those of `edgeward.safety.dense` that lie in [0, 1],
    and ``dice_<class>``.
    """
    arms = {(key, i): arm for key, models in members.items() for i, arm in enumerate(models)}
    run = resample({f"{n}": arm for n, arm in enumerate(arms.values())})
    replicates = dict(zip(arms, run.values(), strict=True))
    cases = next(iter(arms.values())).cases
    values: dict[Key, Values] = {}
    for key, models in members.items():
        parts = [replicates[key, i] for i in range(len(models))]
        found = {
            name: (
                np.array([m.estimates[name] for m in models]),
                np.stack([r[name] for r in parts]),
            )
            for name in DENSE_SCALARS
        }
        for k, name in enumerate(cases.classes):
            found[f"dice_{name}"] = (
                np.array([m.estimates["dice_per_class"][k] for m in models]),
                np.stack([r["dice_per_class"][k] for r in parts]),
            )
        values[key] = _defined(found)
    return differences_and_rows(values, references, cases.n_groups(), cfg.confidence_level)


def _defined(found: Values) -> Values:
    """Leave out what some seed or resample does not have."""
    return {
        name: pair
        for name, pair in found.items()
        if np.isfinite(pair[0]).all() and np.isfinite(pair[1]).all()
    }


def differences_and_rows(
    values: Mapping[Key, Values], references: Mapping[str, str], cases: int, level: float
) -> dict[str, Any]:
    """Combine the seeds of every model and recipe, and compare them.

    Parameters
    ----------
    values : of each (model, recipe), seeds in the same order.
    references : model -> the recipe that its others are compared with. The first model's is what
        the other models' are compared with.
    cases : independent groups of test cases. level : of the intervals.

    Returns
    -------
    ``rows`` and ``differences``: ``model, recipe`` (and ``against {model, recipe}, paired``),
    ``metrics {name: interval record}``.
    """

    def difference(key: Key, against: Key, paired: bool) -> dict[str, Any]:
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
            metrics[name] = combine(parts, cases, level, least=-1.0)
        model, recipe = against
        return {
            "model": key[0], "recipe": key[1], "against": {"model": model, "recipe": recipe},
            "paired": paired, "metrics": metrics,
        }  # fmt: skip

    differences = [
        difference((model, recipe), (model, references[model]), True)
        for model, recipe in values
        if recipe != references[model]
    ]
    base = (next(iter(references)), next(iter(references.values())))
    differences += [
        difference((model, recipe), base, False)
        for model, recipe in references.items()
        if (model, recipe) != base
    ]
    rows = [
        {
            "model": model,
            "recipe": recipe,
            "metrics": {
                name: combine([(1.0, *pair)], cases, level)
                for name, pair in values[model, recipe].items()
            },
        }
        for model, recipe in values
    ]
    return {"rows": rows, "differences": differences}


def run(
    cfg: SafetyConfig | DenseConfig,
    *,
    prepared: Path,
    folders: Mapping[Key, Mapping[int, Path]],
    references: Mapping[str, str],
    out: Path,
) -> dict[str, float]:
    """Pool the assessments of a sweep on one data set; write `out`.

    Parameters
    ----------
    cfg : of the task of the data.
    prepared : folder of the data.
    folders : (model, recipe) -> seed -> assess folder.
    references : as in `pool`.

    Raises
    ------
    UserError
        If seeds differ between candidates, or their predictions are of other test sets.
    """
    data = open_prepared(prepared)
    test_sha256 = fingerprint(data)
    seeds = [sorted(by_seed) for by_seed in folders.values()]
    if any(s != seeds[0] for s in seeds) or len(seeds[0]) < 2:
        raise UserError(f"{prepared}: pooling needs the same two or more seeds, found {seeds}.")
    if isinstance(cfg, DenseConfig):
        cases = cases_of(data)
        n_groups = cases.n_groups()
        dense = {
            key: [
                DenseArm(load_tables(by_seed[s], cases, test_sha256, cfg), cases, cfg)
                for s in seeds[0]
            ]
            for key, by_seed in folders.items()
        }
        found = pool_dense(dense, references, cfg)
    else:
        rows = data.indices("test")
        sample = Sample(
            data.labels[rows], data.groups[rows], data.classes, data.card["rare_classes"]
        )
        n_groups = sample.n_groups()
        members = {
            key: [load_reference(by_seed[s], sample, test_sha256, cfg) for s in seeds[0]]
            for key, by_seed in folders.items()
        }
        found = pool(members, references, cfg)
    write_json(
        out,
        {
            "data": data.card["name"],
            "seeds": seeds[0],
            "confidence_level": cfg.confidence_level,
            "n": {"test": len(data.indices("test")), "groups": n_groups},
            **found,
        },
    )
    return {"seeds": float(len(seeds[0])), "candidates": float(len(folders))}
