"""Stage ``assess``: what ships, run on the test split, with intervals and a paired verdict."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np

from edgeward.core.errors import UserError
from edgeward.core.io import atomic, digest, read_json, write_json
from edgeward.data.store import Prepared, open_prepared
from edgeward.runtimes.session import open_session
from edgeward.safety import inference
from edgeward.safety.config import SafetyConfig
from edgeward.tasks.multiclass import arm as bootstrap
from edgeward.tasks.multiclass.comparison import compare, reference_verdict
from edgeward.tasks.multiclass.study import (
    SCALARS,
    Assessed,
    Sample,
    describe,
    evaluate,
    temperature_of,
)

log = logging.getLogger(__name__)
CASES = "cases"  # folder, beside safety.json, of what is kept of every test case
VERDICT_CODE = {"pass": 1.0, "inconclusive": 0.0, "fail": -1.0}


def assess(
    model: Assessed, reference: Assessed | None, cfg: SafetyConfig
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Assess predictions, and compare them with the reference's on the same sample.

    Parameters
    ----------
    model, reference : from `edgeward.tasks.multiclass.study.evaluate`; None if the model is the reference.
    cfg : the safety group.

    Returns
    -------
    The contents of ``safety.json`` (less ``n`` of val and the fingerprint) and of ``verdict.json``.
    """
    arms = {"compressed": model.arm}
    if reference is not None:
        arms["reference"] = reference.arm
    sample = model.sample
    replicates = bootstrap.run(arms, sample.labels, sample.groups, cfg.resamples, cfg.seed)
    safety = {"compressed": describe(model, replicates["compressed"], cfg)}
    if reference is None:
        return safety["compressed"], reference_verdict(model, safety["compressed"], cfg)
    safety["reference"] = describe(reference, replicates["reference"], cfg)
    return safety["compressed"], compare(reference, model, safety, replicates, cfg)


def fingerprint(data: Prepared) -> str:
    """Return a hash of what makes a test set: the prepared files, and which images, labels, groups."""
    rows = data.indices("test")
    return digest(
        {
            "files": data.card["hashes"],
            "indices": rows,
            "labels": data.labels[rows],
            "groups": data.groups[rows],
        }
    )


def load_reference(folder: Path, sample: Sample, test_sha256: str, cfg: SafetyConfig) -> Assessed:
    """Load the reference's predictions from its assess folder.

    Raises
    ------
    UserError
        If they are missing, or are not of this test set.
    """
    folder = Path(folder)
    for name in (f"{CASES}/logits.npy", "safety.json"):
        if not (folder / name).is_file():
            raise UserError(
                f"{folder / name} is missing; assess the reference {cfg.reference} first."
            )
    logits = np.load(folder / CASES / "logits.npy", allow_pickle=False)
    facts = read_json(folder / "safety.json")
    shape = (len(sample.labels), len(sample.classes))
    if facts.get("test_sha256") != test_sha256 or logits.shape != shape:
        raise UserError(
            f"{folder} holds predictions {logits.shape} of another test set than this one {shape}; "
            f"assess {cfg.reference} again."
        )
    return evaluate(logits, sample, np.array(facts["logit_shift"]), facts["temperature"], cfg)


def metrics_of(safety: dict[str, Any], verdict: dict[str, Any]) -> dict[str, float]:
    """Return the flat metrics of both results, under names that MLflow takes.

    What does not exist (an absent class) is left out.
    """
    found: dict[str, float] = {name: safety[name]["estimate"] for name in SCALARS}
    for limit in ("low", "high"):
        found[f"rare_recall_{limit}"] = safety["rare_recall"][limit]
    found["temperature"] = safety["temperature"]
    found |= {
        f"recall_{row['class']}": row["sensitivity"]["estimate"] for row in safety["per_class"]
    }
    if verdict["verdict"] != "reference":
        found["verdict_code"] = VERDICT_CODE[verdict["verdict"]]
        found["churn"] = verdict["churn"]["estimate"]
        for name, row in verdict["differences"].items():
            found[f"delta_{name}"] = row["estimate"]
            found[f"delta_{name}_low"], found[f"delta_{name}_high"] = row["low"], row["high"]
    return {
        re.sub(r"[^\w.-]", "_", name): float(value)
        for name, value in found.items()
        if np.isfinite(value)
    }


def run(
    cfg: SafetyConfig,
    *,
    model: Path,
    prepared: Path,
    out: Path,
    reference: Path | None,
    threads: int,
) -> dict[str, float]:
    """Assess ``model.onnx`` on the test split.

    Writes ``safety.json``, ``verdict.json`` and, into the folder ``cases``, ``logits.npy`` (float32, test order) and
    ``val_logits.npy``.

    Parameters
    ----------
    cfg : the safety group.
    model, prepared : ``model.onnx`` and the prepared data that it was made from.
    out : folder of the results.
    reference : assess folder of the reference candidate; None if this is the reference.
    threads : for inference.

    Raises
    ------
    UserError
        If model, data and reference do not belong together, a split is empty, or a logit is not finite.
    """
    data = open_prepared(prepared)
    session = open_session(model, threads)
    shift = inference.check_fit(inference.read_metadata(session, model), data, model)
    rows, val_rows = data.indices("test"), data.indices("val")
    sample = Sample(data.labels[rows], data.groups[rows], data.classes, data.card["rare_classes"])
    test_sha256 = fingerprint(data)
    against = None if reference is None else load_reference(reference, sample, test_sha256, cfg)

    val_logits = inference.predict(session, data, val_rows, cfg.batch_size, "val")
    logits = inference.predict(session, data, rows, cfg.batch_size, "test")
    for name, split in (("val", val_logits), ("test", logits)):
        bad = int((~np.isfinite(split).all(axis=1)).sum())
        if bad:
            raise UserError(
                f"{model} gives NaN or infinite logits for {bad} of {len(split)} {name} images; look at "
                "the logs of train, compress and export."
            )
    temperature = temperature_of(val_logits, data.labels[val_rows], shift)
    assessed = evaluate(logits, sample, shift, temperature, cfg)
    log.info("bootstrap: %d resamples of %d groups", cfg.resamples, sample.n_groups())
    safety, verdict = assess(assessed, against, cfg)
    n = {"test": len(rows), "val": len(val_rows), "groups": sample.n_groups()}
    safety = {"n": n, **safety, "logit_shift": shift, "test_sha256": test_sha256}

    for name, array in (("logits.npy", logits), ("val_logits.npy", val_logits)):
        with atomic(Path(out) / CASES / name) as temporary:
            np.save(temporary, array)
    write_json(Path(out) / "safety.json", safety)
    write_json(Path(out) / "verdict.json", verdict)
    for line in (f"verdict: {verdict['verdict']}", *verdict["reasons"]):
        log.info(line)
    return metrics_of(safety, verdict)
