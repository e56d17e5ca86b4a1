"""Stage ``assess`` for segmentation: what ships, case by case, with intervals and a paired verdict."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgeward.core.errors import UserError
from edgeward.core.io import atomic, read_json, write_json
from edgeward.core.windows import sliding
from edgeward.data.store import Prepared, open_prepared
from edgeward.runtimes.base import Session
from edgeward.runtimes.session import open_session
from edgeward.safety import inference
from edgeward.safety.config import DenseConfig
from edgeward.safety.stage import CASES, VERDICT_CODE, fingerprint
from edgeward.tasks.segmentation.arm import SCALARS, Cases, DenseArm, resample
from edgeward.tasks.segmentation.cases import measure
from edgeward.tasks.segmentation.comparison import compare, reference_verdict
from edgeward.tasks.segmentation.study import churn, describe
from edgeward.tasks.segmentation.tables import Tables, read_tables, write_tables

log = logging.getLogger(__name__)
_SECONDS_BETWEEN_LINES = 10.0


def logits_of(
    session: Session, data: Prepared, indices: np.ndarray, cfg: DenseConfig
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield every case and its logits, float32 (n_labels, *spatial), one batch in memory at a time.

    Images in the plane are taken whole, volumes by overlapping windows of the model's input size.
    """

    def forward(images: np.ndarray) -> np.ndarray:
        logits: np.ndarray = session.run(images)
        expected = (len(images), data.n_labels, *images.shape[2:])
        if logits.shape != expected:
            raise UserError(f"The model gives output of shape {logits.shape}; needed: {expected}.")
        return logits

    if data.spatial_dims == 2:
        for first in range(0, len(indices), cfg.batch_size):
            some = indices[first : first + cfg.batch_size]
            images = np.stack([data.case(int(index))[0] for index in some])
            yield from zip(some.tolist(), forward(images), strict=True)
        return
    for index in indices.tolist():
        yield (
            index,
            sliding(forward, data.case(index)[0], session.shape[1:], cfg.overlap, cfg.windows),
        )


def predict(
    session: Session,
    data: Prepared,
    indices: np.ndarray,
    shift: np.ndarray,
    cfg: DenseConfig,
) -> tuple[Tables, list[np.ndarray]]:
    """Run the model over some cases; return what is measured of each, and its label map.

    Raises
    ------
    UserError
        If there is no case, or a logit is not finite.
    """
    if not len(indices):
        raise UserError(
            f"{data.root}: the split 'test' is empty; change data.split and prepare again."
        )
    tables, maps = Tables(), []
    started = said = time.monotonic()
    for index, logits in logits_of(session, data, indices, cfg):
        if not np.isfinite(logits).all():
            raise UserError(
                f"The model gives NaN or infinite logits for case {index}; look at the logs of train, "
                "compress and export."
            )
        mask = data.case(index)[1]
        maps.append(
            measure(
                tables,
                index,
                logits,
                mask,
                data.spacing(index),
                shift,
                cfg.segmentation,
            )
        )
        if time.monotonic() - said > _SECONDS_BETWEEN_LINES:
            said = time.monotonic()
            log.info("test: %d of %d cases", len(maps), len(indices))
    log.info("test: %d cases in %.1f s", len(indices), time.monotonic() - started)
    return tables, maps


def write_predictions(path: Path, indices: np.ndarray, maps: list[np.ndarray]) -> None:
    """Write ``predictions.npz``: `index` (n,), `shape` (n, dims), `labels` uint8, all maps in a row."""
    with atomic(path) as temporary, temporary.open("wb") as handle:
        np.savez_compressed(
            handle,
            index=indices,
            shape=np.array([m.shape for m in maps], dtype=np.int64),
            labels=np.concatenate([m.ravel() for m in maps]),
        )


def load_tables(folder: Path, cases: Cases, test_sha256: str, cfg: DenseConfig) -> Tables:
    """Load what an assess folder holds of every case.

    Raises
    ------
    UserError
        If it is missing, or is not of this test set or these settings.
    """
    folder = Path(folder)
    if not (folder / "safety.json").is_file():
        raise UserError(f"{folder / 'safety.json'} is missing; assess {cfg.reference} first.")
    facts = read_json(folder / "safety.json")
    ours = {"test_sha256": test_sha256, "measured": measured(cfg)}
    for key, value in ours.items():
        if facts.get(key) != value:
            raise UserError(
                f"{folder}: {key} is {facts.get(key)} there and {value} here; assess {cfg.reference} again."
            )
    return read_tables(folder / CASES, cases.indices.tolist(), cases.classes)


def read_labels(path: Path) -> np.ndarray:
    """Read the label maps of ``predictions.npz``, uint8, all in a row."""
    if not path.is_file():
        raise UserError(f"{path} is missing; assess the reference first.")
    with np.load(path, allow_pickle=False) as content:
        labels: np.ndarray = content["labels"]
    return labels


def measured(cfg: DenseConfig) -> dict[str, Any]:
    """Return the settings that the tables depend on."""
    s = cfg.segmentation
    return {
        "tolerance": s.tolerance,
        "boundary": s.boundary,
        "detected_share": s.detected_share,
    }


def cases_of(data: Prepared) -> Cases:
    """Return the test cases of a prepared data set."""
    rows = data.indices("test")
    return Cases(
        rows, data.labels[rows], data.groups[rows], data.classes, data.card["rare_classes"]
    )


def metrics_of(safety: dict[str, Any], verdict: dict[str, Any]) -> dict[str, float]:
    """Return the flat metrics of both results, under names that MLflow takes; without what is undefined."""
    found: dict[str, float] = {name: safety[name]["estimate"] for name in SCALARS}
    for row in safety["per_class"]:
        found |= {
            f"{name}_{row['class']}": row[name]["estimate"]
            for name in ("dice", "hd95", "surface_dice")
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
    cfg: DenseConfig,
    *,
    model: Path,
    prepared: Path,
    out: Path,
    reference: Path | None,
    threads: int,
) -> dict[str, float]:
    """Assess ``model.onnx`` on the test split of a segmentation data set.

    Writes ``safety.json``, ``verdict.json`` and, into the folder ``cases``, ``cases.csv``, ``lesions.csv``,
    ``reliability.csv`` and ``predictions.npz``; logits are not kept. Arguments as for `edgeward.safety.stage.run`.

    Raises
    ------
    UserError
        If model, data and reference do not belong together, the split is empty, or a logit is not finite.
    """
    data, out = open_prepared(prepared), Path(out)
    session = open_session(model, threads)
    shift = inference.check_fit(inference.read_metadata(session, model), data, model)
    cases, test_sha256 = cases_of(data), fingerprint(data)
    against = None if reference is None else load_tables(reference, cases, test_sha256, cfg)

    tables, maps = predict(session, data, cases.indices, shift, cfg)
    arm = DenseArm(tables, cases, cfg)
    log.info("bootstrap: %d resamples of %d groups", cfg.resamples, cases.n_groups())
    if against is None or reference is None:
        replicates = resample({"ours": arm})
        safety = describe(arm, replicates["ours"])
        verdict = reference_verdict(arm, safety)
    else:
        before = DenseArm(against, cases, cfg)
        both = resample({"reference": before, "ours": arm})
        pair = both["reference"], both["ours"]
        safety = describe(arm, pair[1])
        changed = churn(
            (
                read_labels(Path(reference) / CASES / "predictions.npz"),
                np.concatenate([m.ravel() for m in maps]),
            ),
            np.array([m.size for m in maps]),
            arm,
        )
        verdict = compare((before, arm), pair, (describe(before, pair[0]), safety), changed)
    n = {
        "test": len(cases.indices),
        "groups": cases.n_groups(),
        "lesions": len(tables.lesions),
        "small_lesions": int(arm.small.sum()),
    }
    safety = {
        "n": n, **safety, "logit_shift": shift, "test_sha256": test_sha256, "measured": measured(cfg),
    }  # fmt: skip
    write_tables(out / CASES, tables, cases.classes)
    write_predictions(out / CASES / "predictions.npz", cases.indices, maps)
    write_json(out / "safety.json", safety)
    write_json(out / "verdict.json", verdict)
    for line in (f"verdict: {verdict['verdict']}", *verdict["reasons"]):
        log.info(line)
    return metrics_of(safety, verdict)
