"""Builds the files of segmentation candidates: masks are drawn, everything else is what assess writes.

Profile, recipe and history are those of `reporting_factory`, with the keys that segmentation adds.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from reporting_factory import Spec, build, card
from safety_cases import config, of_labels

from edgeward.core.io import read_json, write_json, write_yaml
from edgeward.data.store import VOLUME_COLUMNS
from edgeward.pipeline.paths import ResultPaths
from edgeward.safety.comparison import assess
from edgeward.tasks.assessment import Cases
from edgeward.tasks.segmentation.assess import Arm, LabelMaps
from edgeward.tasks.segmentation.cases import measure
from edgeward.tasks.segmentation.config import Safety
from edgeward.tasks.segmentation.tables import Tables

N_TEST, N_OTHER = 40, 4


@dataclass(frozen=True)
class Scene:
    """A drawn data set: images in the plane, or volumes of several shapes."""

    name: str
    classes: tuple[str, ...]
    volumes: bool


PLANE = Scene("spots", ("lesion",), volumes=False)
VOLUMES = Scene("organs", ("organ", "lesion"), volumes=True)


def _shape(scene: Scene, case: int) -> tuple[int, ...]:
    return (12 + case % 3, 20, 18 + 2 * (case % 2)) if scene.volumes else (24, 32)


def _ball(shape: tuple[int, ...], centre: np.ndarray, radius: float) -> np.ndarray:
    grid = np.indices(shape).reshape(len(shape), -1).T
    return (np.linalg.norm(grid - centre, axis=1) <= radius).reshape(shape)


@cache
def masks(scene: Scene) -> list[np.ndarray]:
    """Masks of all cases, test first; the last test case is empty."""
    rng = np.random.default_rng(7)
    found = []
    for case in range(N_TEST + N_OTHER):
        shape = _shape(scene, case)
        mask = np.zeros(shape, np.uint8)
        middle = np.array(shape) / 2
        if case != N_TEST - 1:
            mask[_ball(shape, middle, min(shape) * 0.38)] = 1
            if scene.volumes and case % 2:
                mask[_ball(shape, middle + rng.integers(-2, 3, len(shape)), 1.5)] = 2
        found.append(mask)
    return found


def _logits(mask: np.ndarray, n_labels: int, worse: float, case: int) -> np.ndarray:
    """Logits that are right but for noise; `worse` also moves the outline."""
    rng = np.random.default_rng(case)
    seen = np.roll(mask, round(worse), axis=-1)
    logits = rng.normal(0, 0.8 + 0.04 * (case % 9), (n_labels, *mask.shape))
    return (logits + 3.0 * (np.arange(n_labels).reshape(-1, *[1] * mask.ndim) == seen)).astype("f4")


def settings(scene: Scene) -> Safety:
    """The shipped section of segmentation."""
    return of_labels(**({} if scene.volumes else {"small_lesion": None}))


@cache
def assessed(scene: Scene, worse: float) -> Arm:
    """A model that is so much worse, on the test cases."""
    tables, maps, cfg = Tables(), [], settings(scene)
    n_labels = 1 + len(scene.classes)
    for case, mask in enumerate(masks(scene)[:N_TEST]):
        logits = _logits(mask, n_labels, worse, case)
        spacing = (2.0, 1.0, 1.0) if scene.volumes else (1.0, 1.0)
        said = measure(tables, case, logits, mask, spacing, np.zeros(n_labels), cfg)
        maps.append(said)
    cases = Cases(
        np.arange(N_TEST), np.zeros(N_TEST, np.int64), np.arange(N_TEST), list(scene.classes),
        ["lesion"] if scene.volumes else [],
    )  # fmt: skip
    shapes = np.array([m.shape for m in maps])
    return Arm(cases, cfg, tables, LabelMaps(np.concatenate([m.ravel() for m in maps]), shapes))


def prepare(scene: Scene, at: Path) -> None:
    """Write the prepared data set."""
    at.mkdir(parents=True, exist_ok=True)
    every = masks(scene)
    n = len(every)
    images = [(40 + 60 * m.astype("f4")) for m in every]
    if scene.volumes:
        np.save(at / "images.npy", np.concatenate([i.ravel() for i in images]).astype("f2"))
        np.save(at / "masks.npy", np.concatenate([m.ravel() for m in every]))
        offsets = np.cumsum([0, *(m.size for m in every)])
        with (at / "volumes.csv").open("w", newline="") as handle:
            writer = csv.writer(handle)
            writer.writerow(VOLUME_COLUMNS)
            for case, m in enumerate(every):
                affine = "1 0 0 0 0 1 0 0 0 0 2 0"
                shape = " ".join(map(str, m.shape[::-1]))
                writer.writerow([case, offsets[case], offsets[case], 1, *m.shape, 2.0, 1.0, 1.0,
                                 affine, shape, affine])  # fmt: skip
    else:
        np.save(at / "images.npy", np.repeat(np.stack(images)[..., None], 3, -1).astype(np.uint8))
        np.save(at / "masks.npy", np.stack(every))
    np.save(at / "labels.npy", np.zeros(n, np.int64))
    with (at / "split.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["index", "id", "label", "class", "group", "split"])
        for case in range(n):
            split = "test" if case < N_TEST else "train"
            writer.writerow([case, f"case <{case}>", 0, "any", f"p{case}", split])
    (at / "calibration.csv").write_text(f"index\n{n - 1}\n")
    held = {
        split: {
            name: sum(bool((m == k + 1).any()) for m in part)
            for k, name in enumerate(scene.classes)
        }
        for split, part in (("train", every[N_TEST:]), ("test", every[:N_TEST]))
    }
    labels = ["background", *scene.classes]
    content = card(Spec(data=scene.name, classes=list(scene.classes)), np.zeros(0)) | {
        "task": "segmentation", "spatial_dims": 3 if scene.volumes else 2, "n_labels": len(labels),
        "rare_classes": ["lesion"] if scene.volumes else [], "rare_rule": "drawn so",
        "n_images": n, "counts": held, "groups": {"train": N_OTHER, "test": N_TEST},
        "empty": {"train": 0, "test": 1},
        "strata": {"train": {"any": N_OTHER}, "test": {"any": N_TEST}},
        "pixels": {
            split: {name: sum(int((m == k).sum()) for m in part) for k, name in enumerate(labels)}
            for split, part in (("train", every[N_TEST:]), ("test", every[:N_TEST]))
        },
    }  # fmt: skip
    write_json(at / "card.json", content)


HISTORY = "epoch,train_loss,val_loss,val_dice,{},lr,images_per_second,seconds\n"


def candidates(root: Path, scene: Scene, specs: list[tuple[Spec, float]]) -> list[ResultPaths]:
    """Write all files of segmentation candidates: each spec, and by how much its outlines are off.

    The first spec of a model is its reference.
    """
    entries = build(root, [spec for spec, _ in specs])
    prepare(scene, entries[0].prepare.folder)
    cfg, n_labels = config(resamples=200), 1 + len(scene.classes)
    first: dict[tuple[str, int], float] = {}
    for paths, (spec, worse) in zip(entries, specs, strict=True):
        base = first.setdefault((spec.model, spec.seed), worse)
        arm = assessed(scene, worse)
        before = None if spec.verdict == "reference" else assessed(scene, base)
        safety, verdict = assess(arm, before, cfg)
        at = paths.assess
        arm.write(at.cases)
        safety.write(at.safety)
        verdict.write(at.verdict)
        write_yaml(at.config, {"safety": cfg.model_dump()})
        size = [8, 16, 16] if scene.volumes else [24, 32]
        recipe = read_json(paths.compress.record)
        recipe["meta"] |= {"image_size": size, "n_labels": n_labels}
        write_json(paths.compress.record, recipe)
        for profile in paths.profiles.values():
            content = read_json(profile)
            content["model"]["input_shape"] = [1, 1 if scene.volumes else 3, *size]
            write_json(profile, content)
        names = ",".join(f"val_dice_{name}" for name in scene.classes)
        rows = [f"{e},{1 / e},{1.1 / e},{1 - 0.3 / e}" + f",{1 - 0.4 / e}" * len(scene.classes)
                + ",0.001,50,9\n" for e in range(1, 6)]  # fmt: skip
        paths.train.history.write_text(HISTORY.format(names) + "".join(rows))
    return entries


def family(scene: Scene, model: str, off: float, **more: Any) -> list[tuple[Spec, float]]:
    """A reference and a compressed candidate whose outlines are off by so many voxels."""
    common = {"data": scene.name, "model": model, "n": 200, **more}
    return [
        (Spec(**common), 0.0),
        (Spec(recipe="ptq_int8", verdict="pass", p50=1.4, **common), off),
    ]
