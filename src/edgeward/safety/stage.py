"""Stage ``assess``: what ships, run on the test split, with intervals and a paired verdict."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeward.core.errors import UserError
from edgeward.core.io import digest
from edgeward.data.store import Prepared, Split, open_prepared
from edgeward.records.base import Interval
from edgeward.records.safety import OnDevice, Safety, Verdict
from edgeward.runtimes.base import Session
from edgeward.runtimes.session import open_session
from edgeward.safety import inference
from edgeward.safety import shift as shifts
from edgeward.safety.comparison import assess, churn
from edgeward.safety.config import StudyConfig
from edgeward.tasks.assessment import Arm, Cases, Predicted, arm_of

log = logging.getLogger(__name__)
CASES = "cases"  # folder, beside safety.json, of what is kept of every case
VERDICT_CODE = {"pass": 1.0, "inconclusive": 0.0, "fail": -1.0}


def of_task(data: Prepared, cfg: StudyConfig) -> tuple[type[Arm], Any]:
    """Return what the task of the data makes of a model, and its section of the configuration."""
    kind = arm_of(data.task, f"{data.root}/card.json")
    return kind, getattr(cfg, kind.task.name)


@dataclass(frozen=True)
class Elsewhere:
    """Where a model decides, if not on the host.

    Attributes
    ----------
    device : its name. emulated : whether an emulator executes the instructions.
    session : the model there. batch : images that it takes at once.
    host : assess folder of the same model on the host.
    """

    device: str
    emulated: bool
    session: Session
    batch: int
    host: Path


def fingerprint(data: Prepared, cases: Cases | None = None) -> str:
    """Return a hash of what makes a test set: the prepared files, and which cases, labels, groups.

    Parameters
    ----------
    cases : some of the test cases; None: all.
    """
    cases = cases or Cases.of(data)
    return digest(
        {
            "files": data.card.hashes,
            "indices": cases.indices,
            "labels": cases.labels,
            "groups": cases.groups,
        }
    )


def load(
    folder: Path, data: Prepared, cfg: StudyConfig, test_sha256: str, cases: Cases | None = None
) -> Arm:
    """Load an assessed model from its assess folder.

    Parameters
    ----------
    test_sha256 : `fingerprint` of the data. cases : that it was assessed on; None: the test split.

    Raises
    ------
    UserError
        If a file is missing, or is not of this test set or these settings.
    """
    kind, section = of_task(data, cfg)
    safety = Safety.read(Path(folder) / "safety.json")
    ours = {"test_sha256": test_sha256, "measured": kind.measured(section)}
    for key, value in ours.items():
        if getattr(safety, key) != value:
            raise UserError(
                f"{folder}: {key} is {getattr(safety, key)} there and {value} here; assess it again."
            )
    return kind.read(cases or Cases.of(data), section, data, Path(folder) / CASES, safety)


def metrics_of(arm: type[Arm], safety: Safety, verdict: Verdict) -> dict[str, float]:
    """Return the flat metrics of both results, under names that MLflow takes.

    What does not exist (an absent class) is left out.
    """
    task = arm.task
    found = {name: row.estimate for name, row in safety.metrics.items()}
    primary = safety.metrics[task.primary]
    found |= {f"{task.primary}_low": primary.low, f"{task.primary}_high": primary.high}
    found |= {k: float(v) for k, v in safety.facts.items() if isinstance(v, int | float)}
    tracked = {task.class_difference, *task.columns}
    for row in safety.per_class:
        found |= {
            f"{m.name}_{row.name}": row.metrics[m.name].estimate
            for m in task.class_metrics
            if m.name in tracked
        }
    if safety.on is not None:
        found["agreement_with_host"] = safety.on.agreement.estimate
    if verdict.verdict != "reference" and verdict.churn is not None:
        found |= {"verdict_code": VERDICT_CODE[verdict.verdict], "churn": verdict.churn.estimate}
        found["also_lost"] = float(len(verdict.also_lost))
        for name, change in verdict.differences.items():
            ends = (f"delta_{name}", f"delta_{name}_low", f"delta_{name}_high")
            found |= dict(zip(ends, change, strict=True))
    return {
        re.sub(r"[^\w.-]", "_", name): float(value)
        for name, value in found.items()
        if value is not None and math.isfinite(value)
    }


def _on(elsewhere: Elsewhere, arm: Arm, data: Prepared, cfg: StudyConfig, model: Path) -> OnDevice:
    """Compare what a device decided with what the host did."""
    host = load(elsewhere.host, data, cfg, fingerprint(data))
    same = host.restricted(np.isin(host.cases.indices, arm.cases.indices))
    differs, low, high = churn(same, arm, cfg)
    on_host = open_session(model, 1).engine
    return OnDevice(
        device=elsewhere.device,
        engine=" ".join(elsewhere.session.engine).strip(),
        emulated=elsewhere.emulated,
        host_engine=" ".join(on_host).strip(),
        agreement=Interval.of(1 - differs, 1 - high, 1 - low, n=len(arm.cases)),
    )


def run(
    cfg: StudyConfig,
    *,
    model: Path,
    prepared: Path,
    out: Path,
    reference: Path | None,
    threads: int,
    elsewhere: Elsewhere | None = None,
) -> dict[str, float]:
    """Assess ``model.onnx`` on the test split.

    Writes ``safety.json``, ``verdict.json`` and, into the folder ``cases``, what the task keeps of every case.

    Parameters
    ----------
    cfg : with the section of the task of the data.
    model, prepared : ``model.onnx`` and the prepared data that it was made from.
    out : folder of the results.
    reference : assess folder of the reference candidate; None if this is the reference.
    threads : for inference on the host.
    elsewhere : the device that decides, in place of the host; `reference` is then what that device decided, too.

    Raises
    ------
    UserError
        If model, data and reference do not belong together, a split is empty, or a logit is not finite.
    """
    data, out = open_prepared(prepared), Path(out)
    cases = Cases.of(data)
    if elsewhere is None:
        session = open_session(model, threads)
    else:
        session = elsewhere.session
        cfg = cfg.model_copy(update={"batch_size": elsewhere.batch, "corruptions": []})
        if cfg.device_images is not None:
            cases = cases.restricted(shifts.chosen(cases.labels, cfg.device_images, cfg.seed))
    shift = inference.check_fit(inference.read_metadata(session, model), data, model)
    test_sha256 = fingerprint(data, cases)
    against = None if reference is None else load(reference, data, cfg, test_sha256, cases)
    kind, section = of_task(data, cfg)

    def predict(split: Split) -> Iterator[tuple[int, np.ndarray]]:
        some = cases.indices if split == "test" else None
        return inference.predict(session, data, split, kind.task, cfg, some)

    predicted = shifts.remembered(predict)
    arm = kind.measure(cases, section, data, predicted, shift)

    def changed(indices: np.ndarray, change: shifts.Change) -> Predicted:
        def of(split: Split) -> Iterator[tuple[int, np.ndarray]]:
            if split == "val":  # thresholds and temperature are those of the images as they are
                return predicted(split)
            return inference.predict(session, data, split, kind.task, cfg, indices, change)

        return of

    corrupted = shifts.measure(arm, cfg, section, data, shift, changed)
    pairs = {}
    if reference is not None and corrupted:
        theirs = Safety.read(reference / "safety.json")
        for of, after in corrupted.items():
            folder = reference / CASES / of.folder
            pairs[of] = kind.read(after.cases, section, data, folder, theirs), after
    log.info("bootstrap: %d resamples of %d groups", cfg.resamples, arm.cases.n_groups())
    safety, verdict = assess(arm, against, cfg, shift=shift, test_sha256=test_sha256, shifted=pairs)
    if elsewhere is not None:
        safety = safety.model_copy(update={"on": _on(elsewhere, arm, data, cfg, model)})
    arm.write(out / CASES)
    for of, part in corrupted.items():
        part.write(out / CASES / of.folder)
    safety.write(out / "safety.json")
    verdict.write(out / "verdict.json")
    lost = [f"also lost, outside the endpoints: {loss.name}" for loss in verdict.also_lost]
    for line in (f"verdict: {verdict.verdict}", *verdict.reasons, *lost):
        log.info(line)
    return metrics_of(kind, safety, verdict)
