"""The seeds of a sweep pooled on one data set: see `edgeward.statistics.seeds` for how."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeward.core.errors import UserError
from edgeward.core.io import write_json
from edgeward.data.store import open_prepared
from edgeward.safety.config import DenseConfig, SafetyConfig
from edgeward.safety.stage import fingerprint, load_reference
from edgeward.statistics.seeds import Key, Values, defined, differences_and_rows
from edgeward.tasks.multiclass import arm as bootstrap
from edgeward.tasks.multiclass.contact import contact_sheet
from edgeward.tasks.multiclass.exemplars import forgotten
from edgeward.tasks.multiclass.study import Assessed, Sample, scalar
from edgeward.tasks.segmentation.arm import SCALARS as OF_SEGMENTATION
from edgeward.tasks.segmentation.arm import DenseArm, resample, value
from edgeward.tasks.segmentation.stage import cases_of, load_tables

PICTURES = 18  # on the contact sheet of each recipe
SCALARS = ("auc_macro", "balanced_accuracy", "rare_recall", "ece")
DENSE_SCALARS = tuple(name for name in OF_SEGMENTATION if name not in ("hd95", "false_lesions"))


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
    return defined(found)


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
    As `differences_and_rows`; names of metrics are those of `edgeward.tasks.segmentation.arm` that lie in [0, 1],
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
                np.array([value(m, name) for m in models]),
                np.stack([r[name] for r in parts]),
            )
            for name in DENSE_SCALARS
        }
        for k, name in enumerate(cases.classes):
            found[f"dice_{name}"] = (
                np.array([m.estimates["dice_per_class"][k] for m in models]),
                np.stack([r["dice_per_class"][k] for r in parts]),
            )
        values[key] = defined(found)
    return differences_and_rows(values, references, cases.n_groups(), cfg.confidence_level)


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
        found = {**pool_dense(dense, references, cfg), "exemplars": []}
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
        found["exemplars"] = [
            {**entry, "sheet": contact_sheet(entry, data.images, data.classes, PICTURES)}
            for entry in forgotten(members, references, rows, cfg)
        ]
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
